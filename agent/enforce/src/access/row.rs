//! Access rules as they are stored.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::content::{AccessRules, Parts, RouteRate};
use super::{PublishAccess, root};
use crate::auth_mode::AuthMode;

/// A stored row. A former release neither wrote nor reads the places.
#[derive(Serialize, Deserialize)]
pub(super) struct Row {
    publish_id: String,
    #[serde(default)]
    hostnames: Vec<String>,
    #[serde(default)]
    base_path: String,
    gateway_id: String,
    tenant_id: String,
    product_id: String,
    environment: String,
    auth_mode: AuthMode,
    suspended: bool,
    limits: Vec<Limit>,
}

#[derive(Serialize, Deserialize)]
struct Limit {
    id: String,
    requests: u64,
    window_seconds: u64,
    routes: Vec<String>,
}

impl From<PublishAccess> for Row {
    fn from(access: PublishAccess) -> Self {
        let rules = &access.rules;
        let limit = |(place, rate): (usize, &RouteRate)| Limit {
            id: rate.id.to_string(),
            requests: rate.requests,
            window_seconds: rate.window_seconds,
            routes: rules.routes_of(place).map(str::to_owned).collect(),
        };
        Self {
            publish_id: access.publish_id.to_string(),
            hostnames: access.hostnames.iter().map(|host| host.to_string()).collect(),
            base_path: access.base_path.to_string(),
            gateway_id: rules.gateway_id().to_owned(),
            tenant_id: rules.public().tenant_id.to_string(),
            product_id: rules.public().product_id.to_string(),
            environment: rules.public().environment.to_string(),
            auth_mode: rules.digest().mode,
            suspended: access.suspended,
            limits: rules.rates().iter().enumerate().map(limit).collect(),
        }
    }
}

impl From<Row> for PublishAccess {
    fn from(row: Row) -> Self {
        let parts = Parts {
            gateway_id: &row.gateway_id,
            tenant_id: &row.tenant_id,
            product_id: &row.product_id,
            environment: &row.environment,
            auth_mode: row.auth_mode,
        };
        let (mut rates, mut by_route) = (Vec::new(), HashMap::new());
        for Limit { id, requests, window_seconds, routes } in row.limits {
            by_route.extend(routes.into_iter().map(|route| (route, rates.len())));
            rates.push(RouteRate::new(&id, requests, window_seconds));
        }
        Self {
            publish_id: row.publish_id.into(),
            hostnames: row.hostnames.into_iter().map(Arc::from).collect(),
            base_path: root(&row.base_path).into(),
            suspended: row.suspended,
            rules: Arc::new(AccessRules::new(&parts, rates, by_route)),
        }
    }
}
