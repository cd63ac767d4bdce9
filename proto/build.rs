//! Generates the contract's Rust code. protox compiles the `.proto` files, so no protoc is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["imp/config/v1/config.proto", "imp/agent/v1/agent.proto"];
    for file in files {
        println!("cargo::rerun-if-changed={file}");
    }
    let descriptors = protox::compile(files, ["."])?;
    let mut prost = tonic_prost_build::Config::new();
    prost.enable_type_names();
    prost.type_name_domain(["."], "type.googleapis.com");
    tonic_prost_build::configure()
        .bytes(".imp.config.v1.Credential")
        .compile_fds_with_config(descriptors, prost)?;
    Ok(())
}
