//! stub
fn main() {
    for c in kubebyon_api::crd::all() {
        println!("---\n{}", serde_saphyr::to_string(&c).unwrap());
    }
}
