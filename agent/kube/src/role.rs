//! The role that the agent needs, from the kinds that it uses.

use crate::kinds::Kind;

/// What the agent does with objects of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Reads and watches them.
    Read,
    /// Also applies and deletes them. To apply is to create or to patch.
    Keep,
}

impl Use {
    fn verbs(self) -> &'static [&'static str] {
        match self {
            Self::Read => &["get", "list", "watch"],
            Self::Keep => &["get", "list", "watch", "create", "patch", "delete"],
        }
    }
}

/// Where a role holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach<'a> {
    Cluster,
    Namespace(&'a str),
}

/// The YAML of a role of this name, and what binds it to the agent's service account. The same uses give
/// the same text.
pub fn role(name: &str, reach: Reach<'_>, uses: &[(&Kind, Use)], account: (&str, &str)) -> String {
    let (prefix, namespace) = match reach {
        Reach::Cluster => ("Cluster", String::new()),
        Reach::Namespace(namespace) => ("", format!("\n  namespace: {namespace}")),
    };
    let metadata = format!("metadata:\n  name: {name}{namespace}\n");
    let mut text =
        format!("apiVersion: rbac.authorization.k8s.io/v1\nkind: {prefix}Role\n{metadata}rules:\n");
    let mut uses: Vec<_> = uses.to_vec();
    uses.sort_by_key(|(kind, of)| (kind.group, kind.plural, of.verbs().len()));
    for (kind, of) in uses {
        text.push_str(&format!("- apiGroups: [\"{}\"]\n", kind.group));
        text.push_str(&format!("  resources: [{}]\n", kind.plural));
        text.push_str(&format!("  verbs: [{}]\n", of.verbs().join(", ")));
    }
    let (account_namespace, account) = account;
    text.push_str(&format!(
        "---\napiVersion: rbac.authorization.k8s.io/v1\nkind: {prefix}RoleBinding\n{metadata}roleRef:\n  \
         apiGroup: rbac.authorization.k8s.io\n  kind: {prefix}Role\n  name: {name}\nsubjects:\n\
         - kind: ServiceAccount\n  name: {account}\n  namespace: {account_namespace}\n"
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds;

    #[test]
    fn a_role_has_no_verb_more_than_its_uses() {
        let uses = [(&kinds::SECRET, Use::Keep), (&kinds::HTTP_ROUTE, Use::Read)];
        let text = role("r", Reach::Namespace("edge"), &uses, ("system", "agent"));
        let rules = "rules:\n- apiGroups: [\"\"]\n  resources: [secrets]\n  \
                     verbs: [get, list, watch, create, patch, delete]\n\
                     - apiGroups: [\"gateway.networking.k8s.io\"]\n  resources: [httproutes]\n  \
                     verbs: [get, list, watch]\n---\n";
        assert!(text.contains(rules), "{text}");
        assert!(text.starts_with("apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\n"));
        let wide = role("r", Reach::Cluster, &uses, ("system", "agent"));
        assert!(wide.contains("kind: ClusterRoleBinding") && !wide.contains("namespace: edge"));
    }
}
