//! A DNS server for tests on a port of its own: a real one, over UDP and TCP, whose zone
//! is in memory and changes at once. It is hickory's, as the operator's resolver is.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use hickory_server::{
    Server,
    proto::rr::{
        LowerName, Name, RData, Record, RecordType, RrKey,
        rdata::{CNAME, SOA},
    },
    store::in_memory::InMemoryZoneHandler,
    zone_handler::{AxfrPolicy, Catalog, ZoneType},
};
use tokio::net::{TcpListener, UdpSocket};

/// The zone: RFC 6761 keeps it for tests.
const ZONE: &str = "test.";
/// Nothing is to be kept by anybody.
const TTL: u32 = 0;

/// The server; it ends when this is dropped.
pub struct NameServer {
    address: SocketAddr,
    zone: Arc<InMemoryZoneHandler>,
    _server: Server<Catalog>,
}

fn name(text: &str) -> Name {
    let mut name: Name = text.parse().expect("a DNS name");
    name.set_fqdn(true);
    name
}

impl NameServer {
    /// An empty zone `test`.
    pub async fn start() -> Self {
        let origin = name(ZONE);
        let zone = Arc::new(InMemoryZoneHandler::empty(
            origin.clone(),
            ZoneType::Primary,
            AxfrPolicy::Deny,
        ));
        let server_name = name("ns.test");
        let soa = SOA::new(server_name.clone(), server_name, 1, 60, 60, 3600, 0);
        zone.upsert(Record::from_rdata(origin.clone(), TTL, RData::SOA(soa)), 1)
            .await;
        let mut catalog = Catalog::new();
        catalog.upsert(LowerName::new(&origin), vec![zone.clone()]);
        let mut server = Server::new(catalog);
        let udp = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        let address = udp.local_addr().expect("an address");
        let tcp = TcpListener::bind(address).await.expect("the same port");
        server.register_socket(udp);
        server.register_listener(tcp, Duration::from_secs(5), 4096);
        Self {
            address,
            zone,
            _server: server,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Makes `host` resolve to `addresses` alone; to nothing when there are none.
    pub async fn set(&self, host: &str, addresses: &[IpAddr]) {
        self.remove(host).await;
        for address in addresses {
            let record = Record::from_rdata(name(host), TTL, RData::from(*address));
            self.zone.upsert(record, 1).await;
        }
    }

    /// Makes `host` another name of `target`.
    pub async fn alias(&self, host: &str, target: &str) {
        self.remove(host).await;
        let record = Record::from_rdata(name(host), TTL, RData::CNAME(CNAME(name(target))));
        self.zone.upsert(record, 1).await;
    }

    async fn remove(&self, host: &str) {
        let host = LowerName::new(&name(host));
        let mut records = self.zone.records_mut().await;
        for kind in [RecordType::A, RecordType::AAAA, RecordType::CNAME] {
            records.remove(&RrKey::new(host.clone(), kind));
        }
    }
}
