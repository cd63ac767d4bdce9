//! What `deploy/tools/module.sh check` says of files: only what every Envoy of the matrix can load is
//! deployed.

use std::path::Path;
use std::process::Command;

use crate::envoy::library;

/// What it says, if it refuses.
fn refused(file: &Path) -> Option<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/tools/module.sh");
    let output = Command::new(script).arg("check").arg(file).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.success(), said.is_empty(), "{said}");
    (!output.status.success()).then(|| said.trim().to_owned())
}

#[test]
fn what_not_every_envoy_can_load_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let built = |name: &str, code: &str, arguments: &[&str]| {
        let (source, library) = (directory.path().join("source.c"), directory.path().join(name));
        std::fs::write(&source, code).unwrap();
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-nostartfiles", "-s", "-o"]).arg(&library);
        assert!(compiler.arg(&source).args(arguments).status().unwrap().success());
        refused(&library)
    };
    let hook = "const char IMP_MODULE_SAYS[] = \"x\";\n\
        const char* envoy_dynamic_module_on_program_init(void) { return 0; }\n";
    let with = |more: &str| format!("{hook}{more}");
    let said = |text: &str| Some(format!("module.sh: {text}"));
    let needs_all = ["-Wl,--no-as-needed", "-lm"];
    assert_eq!(built("right.so", hook, &[]), None);
    assert_eq!(built("needs.so", hook, &needs_all), said("needs libm.so.6"));
    let gcc = ["-Wl,--no-as-needed", "-lgcc_s"];
    assert_eq!(built("gcc.so", hook, &gcc), said("needs libgcc_s.so.1"));
    // A function that glibc has since 2.30.
    let new = with(
        "#define _GNU_SOURCE\n#include <unistd.h>\nint envoy_dynamic_module_on_a(void) { return gettid(); }",
    );
    assert_eq!(built("new.so", &new, &[]), said("needs glibc 2.30"));
    let exports = with("int other(void) { return 1; }");
    assert_eq!(built("exports.so", &exports, &[]), said("exports other"));
    let nothing = "int envoy_dynamic_module_on_a(void) { return 1; }";
    assert_eq!(built("nothing.so", nothing, &[]), said("has no IMP_MODULE_SAYS"));
    let large = with("const char envoy_dynamic_module_on_large[3000000] = {1};");
    assert!(built("large.so", &large, &[]).unwrap().ends_with("at most 3000000"));
    let missing = directory.path().join("missing.so");
    assert_eq!(refused(&missing), said(&format!("no file: {}", missing.display())));
    std::fs::write(&missing, "no library").unwrap();
    assert_eq!(refused(&missing), said(&format!("no library: {}", missing.display())));
    assert!(refused(&library()).is_some(), "a build for tests is not deployed");
}

#[test]
fn what_is_not_stripped_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (source, library) = (directory.path().join("a.c"), directory.path().join("a.so"));
    let code = "const char IMP_MODULE_SAYS[] = \"x\";\n\
        const char* envoy_dynamic_module_on_program_init(void) { return 0; }\n";
    std::fs::write(&source, code).unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-nostartfiles", "-g", "-o"]).arg(&library).arg(&source);
    assert!(compiler.status().unwrap().success());
    assert_eq!(refused(&library).as_deref(), Some("module.sh: is not stripped"));
}
