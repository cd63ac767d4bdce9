//! What there is to say of a publish beside its status.

use imp_proto::agent as pb;

use super::Tracker;
use super::track::Track;

/// The types of conditions, in the order in which they are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    Delivery,
    Drifted,
}

/// At most one of each type.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Conditions {
    delivery: Option<pb::PublishCondition>,
    drifted: Option<pb::PublishCondition>,
}

impl Conditions {
    pub(super) fn list(&self) -> Vec<pb::PublishCondition> {
        self.delivery.iter().chain(&self.drifted).cloned().collect()
    }
}

impl About {
    /// The word in the contract.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivery => "delivery",
            Self::Drifted => "drifted",
        }
    }
}

impl Tracker {
    /// Sets what is said of a publish; `None`: nothing.
    pub fn say(&mut self, id: &str, about: About, condition: Option<pb::PublishCondition>) {
        let Some(track) = self.publishes.get_mut(id) else { return };
        if track.say(about, condition) {
            self.touch_one(id);
        }
    }
}

impl Track {
    /// Whether it is news.
    fn say(&mut self, about: About, condition: Option<pb::PublishCondition>) -> bool {
        if condition.is_none() && self.conditions.is_none() {
            return false;
        }
        let all = self.conditions.get_or_insert_default();
        let slot = match about {
            About::Delivery => &mut all.delivery,
            About::Drifted => &mut all.drifted,
        };
        let is_news = *slot != condition;
        *slot = condition;
        if **all == Conditions::default() {
            self.conditions = None;
        }
        is_news
    }
}
