//! `sqlx::migrate!` embeds the migrations when it compiles; cargo does not see that by itself.

fn main() {
    println!("cargo::rerun-if-changed=../../migrations");
}
