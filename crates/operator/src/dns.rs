//! What public names resolve to, as somebody outside would see it.
//!
//! Nothing is kept between two lookups: a record that was moved away has to be noticed.

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use hickory_resolver::{
    TokioResolver,
    config::{
        ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig,
        ResolverOpts,
    },
    net::{NetError, runtime::TokioRuntimeProvider},
};
use kubebyon_api::types::Hostname;
use tokio::time::timeout;

/// Time limit of one question to one server.
const QUESTION_LIMIT: Duration = Duration::from_secs(2);
/// Time limit of a whole lookup, with its second try and its chain of aliases.
const LOOKUP_LIMIT: Duration = Duration::from_secs(10);
/// Different lists of servers that are remembered: one a PublicAccess.
const MAX_RESOLVERS: usize = 64;

/// No DNS server gave an answer, be it a negative one.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("no DNS server answered for {name}: {message}")]
pub struct Unanswered {
    name: String,
    message: String,
}

/// Asks DNS servers, without a cache.
#[derive(Default)]
pub struct Dns {
    resolvers: Mutex<HashMap<Vec<SocketAddr>, TokioResolver>>,
}

impl Dns {
    /// The addresses of `name`; none when there is no record. Without `servers` those of the
    /// system are asked.
    pub async fn addresses(
        &self,
        servers: &[SocketAddr],
        name: &Hostname,
    ) -> Result<BTreeSet<IpAddr>, Unanswered> {
        let failed = |message: String| Unanswered {
            name: name.to_string(),
            message,
        };
        let resolver = self
            .resolver(servers)
            .map_err(|error| failed(error.to_string()))?;
        // With the dot at its end no search domain is tried.
        let lookup = resolver.lookup_ip(format!("{name}."));
        match timeout(LOOKUP_LIMIT, lookup).await {
            Ok(Ok(found)) => Ok(found.iter().collect()),
            Ok(Err(error)) if error.is_no_records_found() || error.is_nx_domain() => {
                Ok(BTreeSet::new())
            }
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(_) => Err(failed(format!("nothing within {LOOKUP_LIMIT:?}"))),
        }
    }

    fn resolver(&self, servers: &[SocketAddr]) -> Result<TokioResolver, NetError> {
        let mut resolvers = self
            .resolvers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = resolvers.get(servers) {
            return Ok(known.clone());
        }
        let mut builder = if servers.is_empty() {
            TokioResolver::builder_tokio()?
        } else {
            let config = ResolverConfig::from_parts(
                None,
                Vec::new(),
                servers.iter().map(name_server).collect(),
            );
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        };
        uncached(builder.options_mut());
        let made = builder.build()?;
        if resolvers.len() >= MAX_RESOLVERS {
            resolvers.clear();
        }
        resolvers.insert(servers.to_vec(), made.clone());
        Ok(made)
    }
}

fn name_server(server: &SocketAddr) -> NameServerConfig {
    let on_port = |mut connection: ConnectionConfig| {
        connection.port = server.port();
        connection
    };
    let connections = vec![
        on_port(ConnectionConfig::udp()),
        on_port(ConnectionConfig::tcp()),
    ];
    NameServerConfig::new(server.ip(), true, connections)
}

fn uncached(options: &mut ResolverOpts) {
    options.cache_size = 0;
    options.timeout = QUESTION_LIMIT;
    options.attempts = 2;
    options.use_hosts_file = ResolveHosts::Never;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
}
