//! Reruns the build when migrations change: `sqlx::migrate!` embeds them, which cargo cannot see.

fn main() {
    println!("cargo::rerun-if-changed=../../migrations");
}
