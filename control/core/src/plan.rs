//! A plan: price and limits of a product. Its terms are versioned: a subscription keeps its version
//! until it is moved.

use imp_grammar::{caps, features};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::policy::RateLimit;
use crate::product::CatalogStatus;
use crate::stored::words;
use crate::{Check, Meta, PlanId, ProductId, TenantId, Violations, grammar, time_zone};

/// The writable fields of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanSpec {
    /// Unique in the product.
    #[schema(example = "gold")]
    pub name: String,
    /// A description for people.
    #[serde(default)]
    pub description: String,
    /// Short form of a limit named `rate_limit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// Short form of a limit named `quota`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<Quota>,
    /// All other limits.
    #[serde(default)]
    pub limits: Vec<Limit>,
    /// Whether subscriptions are active without approval.
    #[serde(default)]
    pub auto_approve: bool,
    /// How many living subscriptions to the product in one environment a customer may have,
    /// counting all plans, to get another one on this plan. Each has limits of its own.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    #[schema(default = 1, minimum = 1, maximum = 100)]
    pub subscriptions_per_customer: u32,
}

fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_one(number: &u32) -> bool {
    *number == 1
}

/// `{"requests": 1000000, "per": "month"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Quota {
    /// At least 1.
    #[schema(example = 1_000_000)]
    pub requests: u64,
    /// The calendar window.
    pub per: QuotaWindow,
    /// Where the calendar day begins: minutes ahead of UTC, -720 to 840.
    #[serde(default, skip_serializing_if = "is_utc")]
    #[schema(default = 0, minimum = -720, maximum = 840)]
    pub utc_offset_minutes: i32,
    /// The time zone of the calendar day, by its name in the IANA database; instead of an offset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "Europe/Berlin")]
    pub time_zone: Option<String>,
    /// On which days weeks, months and years begin.
    #[serde(default, skip_serializing_if = "is_default")]
    pub anchor: QuotaAnchor,
}

words! {
    /// On which days the windows of a quota begin.
    #[derive(Default)]
    pub enum QuotaAnchor {
        /// Monday, the first of the month, the first of January.
        #[default]
        Calendar = "calendar",
        /// Days like the one on which the subscription was first active: the same day of the week, of the
        /// month or of the year; the last day of a shorter month.
        Subscription = "subscription",
    }
}

fn is_default(anchor: &QuotaAnchor) -> bool {
    *anchor == QuotaAnchor::Calendar
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_utc(minutes: &i32) -> bool {
    *minutes == 0
}

words! {
    /// The windows of a quota.
    pub enum QuotaWindow {
        /// From 00:00.
        Day = "day",
        /// From 00:00 of Monday.
        Week = "week",
        /// From 00:00 of the first.
        Month = "month",
        /// From 00:00 of the first of January.
        Year = "year",
    }
}

/// One limit of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// Unique in the plan; shown in `RateLimit-Policy`.
    #[schema(example = "burst")]
    pub name: String,
    /// The unit that is counted.
    #[serde(default)]
    pub unit: LimitUnit,
    /// At least 1.
    pub amount: u64,
    /// The window in which `amount` is allowed.
    pub window: LimitWindow,
    /// Where the calendar day begins, for a day, week, month or year: minutes ahead of UTC, -720 to 840.
    #[serde(default, skip_serializing_if = "is_utc")]
    #[schema(default = 0, minimum = -720, maximum = 840)]
    pub utc_offset_minutes: i32,
    /// The time zone of the calendar day, by its name in the IANA database; instead of an offset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "Europe/Berlin")]
    pub time_zone: Option<String>,
    /// On which days weeks, months and years begin.
    #[serde(default, skip_serializing_if = "is_default")]
    pub anchor: QuotaAnchor,
    /// What happens to calls beyond the limit.
    #[serde(default)]
    pub on_exceed: OnExceed,
    /// Whether consumers share it.
    #[serde(default)]
    pub scope: LimitScope,
}

words! {
    /// What a limit counts.
    #[derive(Default)]
    pub enum LimitUnit {
        /// Calls.
        #[default]
        Requests = "requests",
    }
}

words! {
    /// Second to hour are rates: at most `amount` in any window of that length. Day, week, month and
    /// year are quotas: they follow the calendar.
    pub enum LimitWindow {
        /// 1 s.
        Second = "second",
        /// 60 s.
        Minute = "minute",
        /// 3,600 s.
        Hour = "hour",
        /// From 00:00.
        Day = "day",
        /// From 00:00 of Monday.
        Week = "week",
        /// From 00:00 of the first.
        Month = "month",
        /// From 00:00 of the first of January.
        Year = "year",
    }
}

impl LimitWindow {
    fn is_calendar(self) -> bool {
        matches!(self, Self::Day | Self::Week | Self::Month | Self::Year)
    }
}

words! {
    /// What happens to calls beyond a limit.
    #[derive(Default)]
    pub enum OnExceed {
        /// Refused with 429.
        #[default]
        Block = "block",
        /// Served, counted and billed.
        Overage = "overage",
    }
}

words! {
    /// Whether consumers share a limit.
    #[derive(Default)]
    pub enum LimitScope {
        /// All consumers of a subscription together.
        #[default]
        Subscription = "subscription",
        /// Each consumer separately.
        Consumer = "consumer",
    }
}

impl Limit {
    /// Where the calendar day begins: the offset and the time zone.
    fn midnight(&self) -> (i32, Option<&str>) {
        (self.utc_offset_minutes, self.time_zone.as_deref())
    }
}

impl PlanSpec {
    /// All limits, including the short forms.
    pub fn all_limits(&self) -> Vec<Limit> {
        let long = |name: &str, amount, window| Limit {
            name: name.to_owned(),
            unit: LimitUnit::Requests,
            amount,
            window,
            utc_offset_minutes: 0,
            time_zone: None,
            anchor: QuotaAnchor::Calendar,
            on_exceed: OnExceed::Block,
            scope: LimitScope::Subscription,
        };
        let rate = self.rate_limit.map(|rate| {
            let window = match rate.per {
                crate::policy::Per::Second => LimitWindow::Second,
                crate::policy::Per::Minute => LimitWindow::Minute,
                crate::policy::Per::Hour => LimitWindow::Hour,
                crate::policy::Per::Newer(word) => LimitWindow::Newer(word),
            };
            long("rate_limit", rate.requests, window)
        });
        let quota = self.quota.as_ref().map(|quota| {
            let window = match quota.per {
                QuotaWindow::Day => LimitWindow::Day,
                QuotaWindow::Week => LimitWindow::Week,
                QuotaWindow::Month => LimitWindow::Month,
                QuotaWindow::Year => LimitWindow::Year,
                QuotaWindow::Newer(word) => LimitWindow::Newer(word),
            };
            Limit {
                utc_offset_minutes: quota.utc_offset_minutes,
                time_zone: quota.time_zone.clone(),
                anchor: quota.anchor,
                ..long("quota", quota.requests, window)
            }
        });
        rate.into_iter().chain(quota).chain(self.limits.iter().cloned()).collect()
    }
}

impl PlanSpec {
    /// What agents must support to count its limits.
    pub fn features(&self) -> Vec<&'static str> {
        let limits = self.all_limits();
        let mut needed = Vec::new();
        if limits.iter().any(|limit| limit.time_zone.is_some()) {
            needed.push(features::TIME_ZONES);
        }
        if limits.iter().any(|limit| limit.window == LimitWindow::Year) {
            needed.push(features::YEAR_QUOTAS);
        }
        if limits.iter().any(|limit| limit.anchor == QuotaAnchor::Subscription) {
            needed.push(features::ANCHORED_QUOTAS);
        }
        needed
    }

    /// Whether no subscription that moves here from `other` gets less of anything: for each limit
    /// that blocks here, `other` must have one of the same window that blocks no later. The meaning
    /// of a newer release's limit is unknown, so only an equal one counts.
    pub fn gives_as_much_as(&self, other: &Self) -> bool {
        let blocks = |limit: &Limit| limit.on_exceed != OnExceed::Overage;
        let there = other.all_limits();
        let no_later = |here: &Limit| {
            there.iter().filter(|there| blocks(there)).any(|there| {
                let shared = there.scope == LimitScope::Subscription;
                let wider =
                    here.scope == there.scope || (shared && here.scope.newer_word().is_none());
                let over = |limit: &Limit| (limit.unit, limit.window, limit.on_exceed);
                over(there) == over(here)
                    && (there.midnight(), there.anchor) == (here.midnight(), here.anchor)
                    && wider
                    && there.amount <= here.amount
            })
        };
        self.all_limits().iter().filter(|limit| blocks(limit)).all(no_later)
    }

    /// A word that this release does not know, with its field.
    pub fn newer_word(&self) -> Option<(&'static str, &'static str)> {
        self.all_limits().into_iter().find_map(|limit| {
            let words = [
                ("unit", limit.unit.newer_word()),
                ("window", limit.window.newer_word()),
                ("anchor", limit.anchor.newer_word()),
                ("on_exceed", limit.on_exceed.newer_word()),
                ("scope", limit.scope.newer_word()),
            ];
            words.into_iter().find_map(|(field, word)| Some((field, word?)))
        })
    }
}

fn check_midnight(v: &mut Violations, minutes: i32, time_zone: Option<&str>, is_calendar: bool) {
    match time_zone {
        None => {}
        Some(_) if !is_calendar => {
            v.add("time_zone", "conflict", "a rate has no 00:00; leave this out");
        }
        Some(_) if minutes != 0 => {
            v.add("time_zone", "conflict", "'utc_offset_minutes' is set; leave one of them out");
        }
        Some(name) => drop(v.take("time_zone", time_zone::check(name))),
    }
    if !(-720..=840).contains(&minutes) {
        v.add("utc_offset_minutes", "out_of_range", "-720 to 840");
    } else if minutes != 0 && !is_calendar {
        v.add("utc_offset_minutes", "conflict", "a rate has no 00:00; leave this out");
    }
}

fn check_anchor(v: &mut Violations, anchor: QuotaAnchor, has_anchor: bool) {
    if anchor == QuotaAnchor::Subscription && !has_anchor {
        let why = "only weeks, months and years begin on a subscription's day; leave this out";
        v.add("anchor", "conflict", why);
    }
}

impl Check for PlanSpec {
    fn check(&self, v: &mut Violations) {
        v.take("name", grammar::name(&self.name));
        v.take("description", grammar::description(&self.description));
        if let Some(rate) = &self.rate_limit {
            v.within("rate_limit", |v| rate.check(v));
        }
        if self.quota.as_ref().is_some_and(|quota| quota.requests == 0) {
            v.add("quota", "out_of_range", "at least 1 request");
        }
        if let Some(quota) = &self.quota {
            let Quota { utc_offset_minutes: minutes, time_zone, anchor, .. } = quota;
            v.within("quota", |v| {
                check_midnight(v, *minutes, time_zone.as_deref(), true);
                check_anchor(v, *anchor, quota.per != QuotaWindow::Day);
            });
        }
        let most = &caps::SUBSCRIPTIONS_PER_CUSTOMER;
        if self.subscriptions_per_customer == 0 {
            v.add("subscriptions_per_customer", "out_of_range", "at least 1");
        }
        v.at_most("subscriptions_per_customer", self.subscriptions_per_customer as usize, most);
        if !v.at_most("limits", self.limits.len(), &caps::LIMITS_PER_PLAN) {
            return;
        }
        let mut names = vec![];
        names.extend(self.rate_limit.map(|_| "rate_limit"));
        names.extend(self.quota.as_ref().map(|_| "quota"));
        v.each("limits", &self.limits, |v, limit| {
            v.take("name", grammar::slug(&limit.name.replace('_', "-")));
            if limit.amount == 0 {
                v.add("amount", "out_of_range", "at least 1");
            }
            let (minutes, time_zone) = limit.midnight();
            let is_calendar = limit.window.is_calendar();
            check_midnight(v, minutes, time_zone, is_calendar);
            check_anchor(v, limit.anchor, is_calendar && limit.window != LimitWindow::Day);
            if names.contains(&limit.name.as_str()) {
                v.add("name", "duplicate_name", "another limit has this name");
            }
            names.push(&limit.name);
        });
    }
}

/// A plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Plan {
    /// The plan's unique id.
    pub id: PlanId,
    /// The tenant that owns it.
    pub tenant_id: TenantId,
    /// The product that it belongs to.
    pub product_id: ProductId,
    /// Its state in the life cycle.
    pub status: CatalogStatus,
    /// The version of the terms that new subscriptions get; existing ones keep theirs.
    pub plan_version: i64,
    #[serde(flatten)]
    pub spec: PlanSpec,
    #[serde(flatten)]
    pub meta: Meta,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(limits: &[(u64, LimitWindow, OnExceed, LimitScope)]) -> PlanSpec {
        let limit = |(index, (amount, window, on_exceed, scope)): (usize, &(u64, _, _, _))| Limit {
            name: format!("limit-{index}"),
            unit: LimitUnit::Requests,
            amount: *amount,
            window: *window,
            utc_offset_minutes: 0,
            time_zone: None,
            anchor: QuotaAnchor::Calendar,
            on_exceed: *on_exceed,
            scope: *scope,
        };
        PlanSpec {
            name: "plan".to_owned(),
            description: String::new(),
            rate_limit: None,
            quota: None,
            limits: limits.iter().enumerate().map(limit).collect(),
            auto_approve: true,
            subscriptions_per_customer: 1,
        }
    }

    #[test]
    fn a_plan_gives_as_much_when_it_blocks_nothing_sooner() {
        use LimitScope::{Consumer, Subscription};
        use LimitWindow::{Day, Month};
        use OnExceed::{Block, Overage};
        let fifty = plan(&[(50, Month, Block, Subscription)]);
        let cases = [
            (plan(&[]), true),
            (plan(&[(50, Month, Block, Subscription)]), true),
            (plan(&[(51, Month, Block, Subscription)]), true),
            (plan(&[(49, Month, Block, Subscription)]), false),
            (plan(&[(5, Month, Overage, Subscription)]), true),
            (plan(&[(50, Month, Block, Consumer)]), true),
            (plan(&[(100, Month, Block, Subscription), (10, Day, Block, Subscription)]), false),
        ];
        for (index, (plan, gives)) in cases.iter().enumerate() {
            assert_eq!(plan.gives_as_much_as(&fifty), *gives, "case {index}");
        }
        let each = plan(&[(50, Month, Block, Consumer)]);
        assert!(!fifty.gives_as_much_as(&each), "shared is less than each for itself");
        assert!(!fifty.gives_as_much_as(&plan(&[(9, Month, Overage, Subscription)])));
        let mut berlin = fifty.clone();
        berlin.limits[0].time_zone = Some("Europe/Berlin".to_owned());
        assert!(!fifty.gives_as_much_as(&berlin) && !berlin.gives_as_much_as(&fifty));
        assert!(berlin.gives_as_much_as(&berlin.clone()), "windows of the same zone are the same");
        let mut anchored = fifty.clone();
        anchored.limits[0].anchor = QuotaAnchor::Subscription;
        assert!(!fifty.gives_as_much_as(&anchored) && !anchored.gives_as_much_as(&fifty));
        assert!(anchored.gives_as_much_as(&anchored.clone()));
    }
}
