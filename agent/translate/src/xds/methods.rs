//! Calls to a routed path with another method.

use std::collections::{BTreeMap, HashMap};

use imp_grammar::path::{Pattern, Shape};

use super::route::{self, Route};
use crate::ir::{Content, METHODS};

/// One answer for each path whose routes all name their methods. They come after all routes, so
/// that calls that another path takes are not answered here. `Allow` lists the methods of that
/// path.
pub(super) fn wrong(publish: &Content) -> Vec<Route> {
    let mut order = BTreeMap::new();
    let mut methods: HashMap<Shape, Option<Vec<&str>>> = HashMap::new();
    for (place, route) in publish.routes.iter().enumerate() {
        let of_path = methods.entry(route.pattern.shape()).or_insert_with_key(|shape| {
            order.insert(place, (shape.clone(), &route.pattern));
            Some(Vec::new())
        });
        match of_path {
            Some(_) if route.methods.is_empty() => *of_path = None,
            Some(of_path) => of_path.extend(route.methods.iter().map(String::as_str)),
            None => {}
        }
    }
    let answer = |(shape, path): (Shape, &Pattern)| {
        let named = methods.get(&shape)?.as_ref()?;
        let allowed: Vec<&str> =
            METHODS.into_iter().filter(|method| named.contains(method)).collect();
        (allowed.len() < METHODS.len()).then(|| route::not_allowed(publish, path, &allowed))
    };
    order.into_values().filter_map(answer).flatten().collect()
}
