//! What the controller says about an entrance.

use kubebyon_api::{
    PublicAccess, PublicAccessStatus, Reason,
    conditions::{self, ConditionStatus, ConditionType, condition, keep_transition_time},
    public_access::{GatewayRole, GatewayStatus},
};
use kubebyon_k8s::{
    gateway_api::gateways::Gateway,
    k8s_openapi::{
        apimachinery::pkg::apis::meta::v1::{Condition, Time},
        jiff::Timestamp,
    },
    kube::ResourceExt,
};

use super::error::Error;

/// Listeners that a Gateway may have (Gateway API, `GatewaySpec.listeners`).
const LISTENER_LIMIT: i32 = 64;

/// Gateways as they are, by role.
pub type Gateways = Vec<(GatewayRole, Gateway)>;

/// The findings of one reconcile.
pub struct Findings {
    /// What keeps the spec from being carried out.
    pub error: Option<Error>,
    /// The Gateways as they are, by role.
    pub gateways: Gateways,
    /// Clusters that use the entrance.
    pub attached: usize,
}

/// Whether a Gateway carries its configuration, as its controller says of this very generation.
fn programmed(gateway: &Gateway) -> Result<(), String> {
    let name = format!(
        "{}/{}",
        gateway.namespace().unwrap_or_default(),
        gateway.name_any()
    );
    let conditions = gateway
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    for type_ in ["Accepted", "Programmed"] {
        let found = conditions.into_iter().flatten().find(|condition| {
            condition.type_ == type_ && condition.observed_generation >= gateway.metadata.generation
        });
        match found {
            Some(condition) if condition.status == "True" => {}
            Some(condition) => {
                return Err(format!(
                    "Gateway {name}: {type_} is {}: {}: {}",
                    condition.status, condition.reason, condition.message
                ));
            }
            None => {
                return Err(format!(
                    "Gateway {name}: no controller has said {type_} of its present generation; does one serve GatewayClass {}?",
                    gateway.spec.gateway_class_name
                ));
            }
        }
    }
    Ok(())
}

/// The status of `access` after `findings`.
pub fn status(access: &PublicAccess, findings: &Findings, now: Timestamp) -> PublicAccessStatus {
    use ConditionStatus::{False, True, Unknown};
    let generation = access.metadata.generation.unwrap_or_default();
    let before = access.status.clone().unwrap_or_default();
    let now = Time(now);
    let make = |type_, status, reason, message: String| {
        keep_transition_time(
            conditions::find(&before.conditions, type_),
            condition(type_, status, reason, message, generation, &now),
        )
    };
    let waiting = findings
        .gateways
        .iter()
        .find_map(|(_, gateway)| programmed(gateway).err());
    let (accepted, programmed) = match (&findings.error, &waiting) {
        (Some(error), _) => (
            (False, error.reason(), error.to_string()),
            (
                Unknown,
                Reason::WaitingForDependency,
                format!("waits for Accepted ({})", error.reason()),
            ),
        ),
        (None, Some(why)) => (
            (True, Reason::Succeeded, String::new()),
            (False, Reason::GatewayNotProgrammed, why.clone()),
        ),
        (None, None) => (
            (True, Reason::Succeeded, String::new()),
            (
                True,
                Reason::Succeeded,
                "every Gateway is programmed".to_owned(),
            ),
        ),
    };
    let ready = match (accepted.0, programmed.0) {
        (True, True) => programmed.clone(),
        (True, _) => (False, programmed.1, programmed.2.clone()),
        _ => (False, accepted.1, accepted.2.clone()),
    };
    let stalled = findings.error.as_ref().filter(|error| error.is_terminal());
    let reconciling = match stalled {
        Some(error) => (
            False,
            error.reason(),
            "waiting for a change of the spec, or of what the message of Stalled names".to_owned(),
        ),
        None if ready.0 == True => (False, Reason::Succeeded, String::new()),
        None => (True, ready.1, ready.2.clone()),
    };
    let stalled = stalled.map_or((False, Reason::Succeeded, String::new()), |error| {
        (True, error.reason(), error.to_string())
    });
    let list: Vec<Condition> = [
        (ConditionType::Accepted, accepted),
        (ConditionType::Programmed, programmed),
        (ConditionType::Ready, ready),
        (ConditionType::Reconciling, reconciling),
        (ConditionType::Stalled, stalled),
    ]
    .into_iter()
    .map(|(type_, (status, reason, message))| make(type_, status, reason, message))
    .collect();
    PublicAccessStatus {
        observed_generation: Some(generation),
        conditions: list,
        gateways: findings
            .gateways
            .iter()
            .map(|(role, gateway)| gateway_status(*role, gateway))
            .collect(),
        attached_clusters: i32::try_from(findings.attached).ok(),
        certificates: Vec::new(),
    }
}

fn gateway_status(role: GatewayRole, gateway: &Gateway) -> GatewayStatus {
    let addresses = gateway
        .status
        .as_ref()
        .and_then(|status| status.addresses.as_ref());
    GatewayStatus {
        role,
        namespace: gateway.namespace().unwrap_or_default(),
        name: gateway.name_any(),
        class_name: gateway.spec.gateway_class_name.clone(),
        addresses: addresses
            .into_iter()
            .flatten()
            .map(|address| address.value.clone())
            .collect(),
        listeners_used: i32::try_from(gateway.spec.listeners.len()).unwrap_or(LISTENER_LIMIT),
        listeners_limit: LISTENER_LIMIT,
    }
}
