//! A DNS server whose answers a test changes.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use hickory_server::Server;
use hickory_server::net::runtime::Time;
use hickory_server::proto::op::{Metadata, ResponseCode};
use hickory_server::proto::rr::rdata::{A, AAAA, CNAME};
use hickory_server::proto::rr::{Name, RData, Record, RecordType};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use tokio::net::UdpSocket;

/// The answer for a name.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Addresses(Vec<IpAddr>),
    Alias(String),
}

type Names = Arc<Mutex<HashMap<String, Answer>>>;

/// Runs until dropped.
pub(crate) struct Dns {
    pub(crate) address: SocketAddr,
    names: Names,
    _server: Server<Zone>,
}

impl Dns {
    pub(crate) async fn start() -> Result<Self> {
        let names = Names::default();
        let mut server = Server::new(Zone { names: names.clone() });
        let socket = UdpSocket::bind("127.0.0.1:0").await?;
        let address = socket.local_addr()?;
        server.register_socket(socket);
        Ok(Self { address, names, _server: server })
    }

    /// Sets the answer.
    pub(crate) fn answer(&self, name: &str, addresses: &[&str]) {
        let parsed = addresses.iter().filter_map(|address| address.parse().ok()).collect();
        self.set(name, Answer::Addresses(parsed));
    }

    pub(crate) fn alias(&self, name: &str, of: &str) {
        self.set(name, Answer::Alias(of.to_owned()));
    }

    fn set(&self, name: &str, answer: Answer) {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.insert(name.to_owned(), answer);
    }
}

struct Zone {
    names: Names,
}

impl Zone {
    /// The whole chain of aliases and its end. Must not be cached: every TTL is 0.
    fn records(&self, name: &str, wanted: RecordType) -> Vec<Record> {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut records, mut name) = (vec![], name.to_owned());
        loop {
            let Ok(owner) = Name::from_ascii(format!("{name}.")) else { return records };
            let record = |data| Record::from_rdata(owner.clone(), 0, data);
            match names.get(&name) {
                Some(Answer::Alias(of)) => {
                    let Ok(target) = Name::from_ascii(format!("{of}.")) else { return records };
                    records.push(record(RData::CNAME(CNAME(target))));
                    name.clone_from(of);
                }
                Some(Answer::Addresses(addresses)) => {
                    let data = addresses.iter().filter_map(|address| match (address, wanted) {
                        (IpAddr::V4(v4), RecordType::A) => Some(RData::A(A(*v4))),
                        (IpAddr::V6(v6), RecordType::AAAA) => Some(RData::AAAA(AAAA(*v6))),
                        _ => None,
                    });
                    records.extend(data.map(record));
                    return records;
                }
                None => return records,
            }
        }
    }
}

#[tonic::async_trait]
impl RequestHandler for Zone {
    #[expect(clippy::expect_used, reason = "a failed expectation is a failed test")]
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response: R,
    ) -> ResponseInfo {
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.authoritative = true;
        let records = match request.request_info() {
            Ok(info) => {
                let name = info.query.name().to_string();
                self.records(name.trim_end_matches('.'), info.query.query_type())
            }
            Err(_) => vec![],
        };
        if records.is_empty() {
            metadata.response_code = ResponseCode::NXDomain;
        }
        let builder = MessageResponseBuilder::from_message_request(request);
        let message = builder.build(metadata, records.iter(), [], [], []);
        response.send_response(message).await.expect("the answer is sent")
    }
}
