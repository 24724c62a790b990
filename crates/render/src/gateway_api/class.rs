//! Which GatewayClass a role gets.

use kubebyon_api::public_access::{AddressMode, GatewayApi};

use super::Role;

/// The class of a role: its own, which the platform and the workload may have; else the profile of
/// the address mode (Single: shared for all; Dual: edge for control plane and platform, workload for
/// workload); else `gatewayClassName`.
pub fn of(api: &GatewayApi, role: Role) -> &str {
    let own = match role {
        Role::ControlPlane => None,
        Role::Platform => api.platform.gateway_class_name.as_deref(),
        Role::Workload => api.workload.gateway_class_name.as_deref(),
    };
    let profiles = &api.gateway_class_profiles;
    let profile = match (api.address_mode, role) {
        (AddressMode::Single, _) => &profiles.shared,
        (AddressMode::Dual, Role::ControlPlane | Role::Platform) => &profiles.edge,
        (AddressMode::Dual, Role::Workload) => &profiles.workload,
    };
    own.or(profile.as_deref())
        .unwrap_or(&api.gateway_class_name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway_api::tests::access;
    use serde_json::{Map, Value, json};

    /// Mode; profiles that are set (shared, edge, workload); own classes that are set (platform,
    /// workload) = class of control plane, platform, workload.
    const TABLE: &str = "
Dual   --- -- = last   last   last
Dual   --- -w = last   last   own-w
Dual   --- p- = last   own-p  last
Dual   --- pw = last   own-p  own-w
Dual   --w -- = last   last   sites
Dual   --w -w = last   last   own-w
Dual   --w p- = last   own-p  sites
Dual   --w pw = last   own-p  own-w
Dual   -e- -- = edge   edge   last
Dual   -e- -w = edge   edge   own-w
Dual   -e- p- = edge   own-p  last
Dual   -e- pw = edge   own-p  own-w
Dual   -ew -- = edge   edge   sites
Dual   -ew -w = edge   edge   own-w
Dual   -ew p- = edge   own-p  sites
Dual   -ew pw = edge   own-p  own-w
Dual   s-- -- = last   last   last
Dual   s-- -w = last   last   own-w
Dual   s-- p- = last   own-p  last
Dual   s-- pw = last   own-p  own-w
Dual   s-w -- = last   last   sites
Dual   s-w -w = last   last   own-w
Dual   s-w p- = last   own-p  sites
Dual   s-w pw = last   own-p  own-w
Dual   se- -- = edge   edge   last
Dual   se- -w = edge   edge   own-w
Dual   se- p- = edge   own-p  last
Dual   se- pw = edge   own-p  own-w
Dual   sew -- = edge   edge   sites
Dual   sew -w = edge   edge   own-w
Dual   sew p- = edge   own-p  sites
Dual   sew pw = edge   own-p  own-w
Single --- -- = last   last   last
Single --- -w = last   last   own-w
Single --- p- = last   own-p  last
Single --- pw = last   own-p  own-w
Single --w -- = last   last   last
Single --w -w = last   last   own-w
Single --w p- = last   own-p  last
Single --w pw = last   own-p  own-w
Single -e- -- = last   last   last
Single -e- -w = last   last   own-w
Single -e- p- = last   own-p  last
Single -e- pw = last   own-p  own-w
Single -ew -- = last   last   last
Single -ew -w = last   last   own-w
Single -ew p- = last   own-p  last
Single -ew pw = last   own-p  own-w
Single s-- -- = shared shared shared
Single s-- -w = shared shared own-w
Single s-- p- = shared own-p  shared
Single s-- pw = shared own-p  own-w
Single s-w -- = shared shared shared
Single s-w -w = shared shared own-w
Single s-w p- = shared own-p  shared
Single s-w pw = shared own-p  own-w
Single se- -- = shared shared shared
Single se- -w = shared shared own-w
Single se- p- = shared own-p  shared
Single se- pw = shared own-p  own-w
Single sew -- = shared shared shared
Single sew -w = shared shared own-w
Single sew p- = shared own-p  shared
Single sew pw = shared own-p  own-w
";

    /// An object with the keys whose letter is in `set`.
    fn fields(set: &str, keys: &[(char, &str, Value)]) -> Value {
        keys.iter()
            .filter(|(letter, ..)| set.contains(*letter))
            .map(|(_, key, value)| ((*key).to_owned(), value.clone()))
            .collect::<Map<_, _>>()
            .into()
    }

    #[test]
    fn the_whole_table() {
        let mut rows = std::collections::BTreeSet::new();
        for row in TABLE.trim().lines() {
            let (case, classes) = row.split_once(" = ").unwrap();
            assert!(rows.insert(case), "twice: {case}");
            let words: Vec<_> = case.split_whitespace().collect();
            let mut api = fields(
                words[2],
                &[
                    ('p', "platform", json!({"gatewayClassName": "own-p"})),
                    ('w', "workload", json!({"gatewayClassName": "own-w"})),
                ],
            );
            api["gatewayClassName"] = json!("last");
            api["addressMode"] = json!(words[0]);
            api["gatewayClassProfiles"] = fields(
                words[1],
                &[
                    ('s', "shared", json!("shared")),
                    ('e', "edge", json!("edge")),
                    ('w', "workload", json!("sites")),
                ],
            );
            let access = access(&api, &json!({}));
            let api = access.spec.gateway_api.as_ref().unwrap();
            let resolved = Role::ALL.map(|role| of(api, role));
            let expected: Vec<_> = classes.split_whitespace().collect();
            assert_eq!(resolved[..], expected[..], "{row}");
        }
        // Two modes, three profiles, two own classes.
        assert_eq!(rows.len(), 2 * 8 * 4);
    }

    #[test]
    fn an_empty_text_is_not_set() {
        let access = access(
            &json!({"gatewayClassProfiles": {"shared": "", "edge": "", "workload": ""},
                "platform": {"gatewayClassName": ""}, "workload": {"gatewayClassName": ""}}),
            &json!({}),
        );
        let api = access.spec.gateway_api.as_ref().unwrap();
        assert_eq!(Role::ALL.map(|role| of(api, role)), ["eg", "eg", "eg"]);
    }
}
