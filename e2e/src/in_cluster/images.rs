//! The product's images, put together from programs that were built here.

use std::{fs, path::Path};

use kubebyon_testbed::{Error, Result, images::ImageSpec};

const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// As config/manager runs it.
const NOBODY: u32 = 65532;

/// The operator, the helm that it runs, and the authorities that it trusts.
pub fn operator(program: &Path, helm: &Path) -> Result<ImageSpec> {
    let authorities = fs::read_to_string(AUTHORITIES).map_err(Error::file("read", AUTHORITIES))?;
    Ok(ImageSpec::new(
        "docker.io/kubebyon/operator:dev",
        &["/usr/local/bin/kubebyon-operator"],
    )
    .linked_program("/usr/local/bin/kubebyon-operator", program)?
    .program("/usr/local/bin/helm", helm)
    .text(AUTHORITIES, &authorities)
    .user(NOBODY))
}

/// The chart repository.
pub fn chart_repository(program: &Path) -> Result<ImageSpec> {
    Ok(ImageSpec::new(
        "docker.io/kubebyon/chart-repository:dev",
        &["/usr/local/bin/chart-repository"],
    )
    .linked_program("/usr/local/bin/chart-repository", program)?
    .user(NOBODY))
}
