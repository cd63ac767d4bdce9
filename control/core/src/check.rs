//! Validation of inputs, field by field.

use imp_grammar::caps::{self, Cap};
use serde::Serialize;
use utoipa::ToSchema;

/// One fault of an input, as shown in `errors[]` of a problem document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Violation {
    /// JSON pointer (RFC 6901) to the field.
    #[schema(example = "/routes/0/path/prefix")]
    pub pointer: String,
    /// A stable word for programs.
    #[schema(example = "invalid_path")]
    pub code: &'static str,
    /// A sentence for people.
    pub detail: String,
}

/// Collects violations while walking an input; tracks the current pointer.
#[derive(Debug, Default)]
pub struct Violations {
    at: String,
    found: Vec<Violation>,
}

impl Violations {
    /// Starts empty, at the root.
    pub fn new() -> Self {
        Self::default()
    }

    /// Records a fault of the field `name` below the current pointer.
    pub fn add(&mut self, name: &str, code: &'static str, detail: impl Into<String>) {
        // Bounded, so that an input with thousands of faults does not get an answer of megabytes.
        if !caps::FAULTS_TOLD.admits(self.found.len() + 1) {
            return;
        }
        let pointer = if name.is_empty() { self.at.clone() } else { self.pointer(name) };
        self.found.push(Violation { pointer, code, detail: detail.into() });
    }

    /// Records a fault if a list is longer than its cap. Returns whether it is within the cap.
    pub fn at_most(&mut self, name: &str, length: usize, cap: &Cap) -> bool {
        if !cap.admits(length) {
            self.add(name, "too_many", format!("at most {}", cap.value));
        }
        cap.admits(length)
    }

    /// Records `result`'s error, if any, and returns its value.
    pub fn take<T>(&mut self, name: &str, result: Result<T, Fault>) -> Option<T> {
        result.map_err(|fault| self.add(name, fault.code, fault.detail)).ok()
    }

    /// Runs `inside` with the pointer at the field `name` (or list index).
    pub fn within(&mut self, name: impl ToString, inside: impl FnOnce(&mut Self)) {
        let outer = self.at.len();
        self.at = self.pointer(&name.to_string());
        inside(self);
        self.at.truncate(outer);
    }

    /// Runs a check for every element of a list.
    pub fn each<'a, T: 'a>(
        &mut self,
        name: &str,
        items: impl IntoIterator<Item = &'a T>,
        mut inside: impl FnMut(&mut Self, &'a T),
    ) {
        self.within(name, |v| {
            for (index, item) in items.into_iter().enumerate() {
                v.within(index, |v| inside(v, item));
            }
        });
    }

    /// Returns all violations as the error.
    pub fn into_result(self) -> Result<(), Vec<Violation>> {
        if self.found.is_empty() { Ok(()) } else { Err(self.found) }
    }

    fn pointer(&self, name: &str) -> String {
        format!("{}/{}", self.at, name.replace('~', "~0").replace('/', "~1"))
    }
}

/// What is wrong with a single value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// A stable word for programs.
    pub code: &'static str,
    /// A sentence for people.
    pub detail: String,
}

impl Fault {
    pub fn new(code: &'static str, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }
}

/// An input with rules beyond its types.
pub trait Check {
    /// Records every fault.
    fn check(&self, v: &mut Violations);

    /// Converts a valid input to the form in which it is stored and compared.
    fn canonicalise(&mut self) {}

    /// Returns all faults at once, so that a caller need not fix them one by one.
    fn checked(&self) -> Result<(), Vec<Violation>> {
        let mut violations = Violations::new();
        self.check(&mut violations);
        violations.into_result()
    }
}
