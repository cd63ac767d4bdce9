//! Maps names of tables and fields in database errors to static strings.
//!
//! Constraints are named `<kind>_<table>__<field>` in `migrations/`, so that the name tells the
//! JSON field at fault.

/// Tables whose rows can prevent a deletion, with their names for callers.
pub(crate) const TABLES: &[(&str, &str)] = &[
    ("agents", "agents"),
    ("api_services", "api-services"),
    ("api_tokens", "api-tokens"),
    ("client_apps", "client-apps"),
    ("clusters", "clusters"),
    ("consumers", "consumers"),
    ("credentials", "credentials"),
    ("customers", "customers"),
    ("domains", "domains"),
    ("gateway_conditions", "gateways"),
    ("gateways", "gateways"),
    ("hostname_owners", "product-publishes"),
    ("listener_ports", "product-publishes"),
    ("plan_versions", "plans"),
    ("plans", "plans"),
    ("port_claims", "product-publishes"),
    ("product_api_services", "products"),
    ("product_publish_api_services", "product-publishes"),
    ("product_publish_claims", "product-publishes"),
    ("product_publish_revisions", "product-publishes"),
    ("product_publishes", "product-publishes"),
    ("products", "products"),
    ("registration_tokens", "registration-tokens"),
    ("subscriptions", "subscriptions"),
    ("tenants", "tenants"),
];

const FIELDS: &[&str] = &[
    "api_services",
    "client_app_id",
    "cluster_id",
    "consumer_id",
    "customer_id",
    "gateway_id",
    "hostname",
    "id",
    "name",
    "plan_id",
    "plan_version",
    "product_id",
    "product_publish_id",
    "revision",
    "secret_hash",
    "slug",
    "subscription_id",
    "tenant_id",
];

/// Splits a constraint's name into table and field.
pub(crate) fn parts(constraint: &str) -> (&'static str, &'static str) {
    if let Some(table) = constraint.strip_suffix("_pkey") {
        return (kind(table), "id");
    }
    let Some((left, right)) = constraint.split_once("__") else { return ("", "") };
    let table = left.split_once('_').map_or(left, |(_, table)| table);
    (kind(table), field(right))
}

/// The plural by which callers know a table.
pub(crate) fn kind(table: &str) -> &'static str {
    TABLES.iter().find(|(name, _)| *name == table).map_or("other objects", |(_, kind)| kind)
}

/// The JSON field of a column.
pub(crate) fn field(column: &str) -> &'static str {
    match column {
        // One host of the list.
        "hostname" => "hostnames",
        // The domain's name, once it is held.
        "held_name" => "name",
        // One port of the list.
        "port" => "listeners",
        "api_service_id" => "api_services",
        _ => FIELDS.iter().find(|name| **name == column).copied().unwrap_or("id"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_constraint_tells_table_and_field() {
        assert_eq!(parts("uq_plans__name"), ("plans", "name"));
        assert_eq!(parts("fk_product_publishes__cluster_id"), ("product-publishes", "cluster_id"));
        assert_eq!(parts("uq_product_publish_claims__hostname").1, "hostnames");
        assert_eq!(parts("plans_pkey"), ("plans", "id"));
    }

    #[test]
    fn the_lists_are_sorted_and_hold_no_word_twice() {
        assert!(TABLES.is_sorted_by(|a, b| a.0 < b.0));
        assert!(FIELDS.is_sorted_by(|a, b| a < b));
    }
}
