//! A DNS server with answers set by a test.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::{CNAME, TXT};
use hickory_resolver::proto::rr::{Name, RData, Record};
use serde_json::Value;
use tokio::net::UdpSocket;

/// The answer for a name.
#[derive(Clone)]
pub enum Says {
    /// TXT records, each with these strings.
    Texts(Vec<Vec<String>>),
    /// An alias for another name.
    Alias(&'static str, Vec<String>),
    /// No answer at all.
    Silence,
    /// SERVFAIL.
    Failure,
    /// Bytes that are not an answer.
    Nonsense,
}

/// Runs on loopback. Unset names do not exist.
#[derive(Clone)]
pub struct Dns {
    pub address: SocketAddr,
    names: Arc<Mutex<HashMap<String, Says>>>,
}

impl Dns {
    pub async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let dns = Self { address: socket.local_addr().unwrap(), names: Arc::default() };
        let server = dns.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            loop {
                let (length, peer) = socket.recv_from(&mut buffer).await.unwrap();
                if let Some(answer) = server.answer(&buffer[..length]) {
                    socket.send_to(&answer, peer).await.unwrap();
                }
            }
        });
        dns
    }

    /// Sets the answer for a name.
    pub fn say(&self, name: &str, says: Says) {
        self.names.lock().unwrap().insert(name.to_owned(), says);
    }

    /// Sets the record that a domain requires, as a careless owner would: beside others, and split
    /// into strings.
    pub fn prove(&self, domain: &Value) {
        let value = domain["challenge"]["value"].as_str().unwrap();
        let (left, right) = value.split_at(7);
        let texts = vec![vec!["v=spf1 -all".into()], vec![left.into(), right.into()]];
        self.say(domain["challenge"]["record"].as_str().unwrap(), Says::Texts(texts));
    }

    fn answer(&self, question: &[u8]) -> Option<Vec<u8>> {
        let question = Message::from_vec(question).unwrap();
        let query = question.queries[0].clone();
        let name = query.name().to_string().to_lowercase();
        let says = self.names.lock().unwrap().get(name.trim_end_matches('.')).cloned();
        let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
        answer.metadata.recursion_available = true;
        answer.metadata.recursion_desired = true;
        answer.add_query(query.clone());
        let text = |name: &Name, texts: Vec<String>| {
            Record::from_rdata(name.clone(), 1, RData::TXT(TXT::new(texts)))
        };
        match says {
            None => answer.metadata.response_code = ResponseCode::NXDomain,
            Some(Says::Failure) => answer.metadata.response_code = ResponseCode::ServFail,
            Some(Says::Silence) => return None,
            Some(Says::Nonsense) => return Some(vec![0xff; 40]),
            Some(Says::Texts(all)) => {
                answer.add_answers(all.into_iter().map(|texts| text(query.name(), texts)));
            }
            Some(Says::Alias(to, texts)) => {
                let to: Name = to.parse().unwrap();
                let alias = RData::CNAME(CNAME(to.clone()));
                answer.add_answer(Record::from_rdata(query.name().clone(), 1, alias));
                answer.add_answer(text(&to, texts));
            }
        }
        Some(answer.to_vec().unwrap())
    }
}
