//! Whether proxies have what was accepted: when they are asked, and what follows.

use imp_kube::Order;
use imp_translate::gateway_api::gateway_name;
use tokio_util::sync::CancellationToken;

use super::super::probe::{self, Answer, Question, Told};
use super::{Driver, now_ms, objects_of, of_probe};

impl Driver {
    /// Asks the proxies of a gateway about what they accepted since they were asked last.
    pub(super) fn probe(&mut self, gateway: &str) {
        let Some(known) = self.gateways.get(gateway) else { return };
        let Some(mark) = self.probes.next_mark(gateway, now_ms()) else { return };
        let (_, targets) = self.plan.probe(&known.gateway, mark);
        let (ends, written) = (CancellationToken::new(), CancellationToken::new());
        let question = Question {
            namespace: self.api.namespace.clone(),
            gateway: gateway.to_owned(),
            mark,
            targets,
            written: written.clone(),
        };
        let asked = probe::ask(self.connection.clone(), question, self.asking.clone());
        self.probes.asking(gateway, ends.clone(), written);
        tokio::spawn(async move { ends.run_until_cancelled(asked).await });
    }

    /// Has the route with this mark applied.
    pub(super) fn mark(&self, id: &str, mark: u64) {
        let Some(known) = self.gateways.get(id) else { return };
        let (route, _) = self.plan.probe(&known.gateway, mark);
        let (set, gateway, objects) = (of_probe(id), gateway_name(id), objects_of(vec![route]));
        self.keep(Order::Want { set, revision: mark, gateway, objects });
    }

    /// The proxies of a gateway have answered.
    pub(super) fn answered(&mut self, told: &Told) {
        if told.answer == Answer::Found {
            if self.probes.is_asked(told) {
                self.mark(&told.gateway, told.mark);
            }
            return;
        }
        let sets = self.probes.told(told);
        metrics::counter!("imp_kube_probes_total", "answer" => told.answer.word()).increment(1);
        let gateway = &told.gateway;
        match told.answer {
            Answer::Late => tracing::warn!(gateway, "proxies do not have what was accepted"),
            Answer::Unwritten => tracing::warn!(gateway, "the probe of proxies is not accepted"),
            Answer::Found | Answer::Served | Answer::Unreached => {}
        }
        sets.iter().for_each(|set| self.tell(set));
        self.probe(&told.gateway);
    }
}
