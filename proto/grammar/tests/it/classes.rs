//! `docs/gateway-classes.md` ends with the table.

use std::path::Path;

use imp_grammar::classes;

const MARK: &str = "writes what follows. -->\n\n";

#[test]
fn the_document_is_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/gateway-classes.md");
    let found = std::fs::read_to_string(&path).unwrap();
    let (before, _) = found.split_once(MARK).expect("the mark");
    let wanted = format!("{before}{MARK}{}", classes::document());
    if std::env::var_os("UPDATE_CLASSES").is_some() {
        std::fs::write(&path, &wanted).unwrap();
        return;
    }
    assert!(
        found == wanted,
        "UPDATE_CLASSES=1 cargo test -p imp-grammar writes {}",
        path.display()
    );
}
