//! Writes `src/envoy_gateway/descriptors.bin`: what [`imp_translate::envoy_gateway`] needs to write Envoy's messages
//! as JSON. Takes the folder `proto` of the package envoy-types, in the version of `Cargo.lock`:
//! `cargo run -p imp-translate --example descriptors -- PATH`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use prost::Message as _;
use prost_reflect::prost_types::{
    DescriptorProto, EnumDescriptorProto, EnumOptions, FileDescriptorProto, FileDescriptorSet,
    MessageOptions,
};

/// The files of the messages that are rendered; what they import comes along.
const FILES: [&str; 46] = [
    "config/cluster/v3/cluster",
    "config/listener/v3/listener",
    "config/route/v3/route",
    "config/route/v3/route_components",
    "config/rbac/v3/rbac",
    "extensions/access_loggers/filters/cel/v3/cel",
    "extensions/compression/gzip/compressor/v3/gzip",
    "extensions/filters/http/api_key_auth/v3/api_key_auth",
    "extensions/filters/http/basic_auth/v3/basic_auth",
    "extensions/filters/http/buffer/v3/buffer",
    "extensions/filters/http/cache/v3/cache",
    "extensions/filters/http/compressor/v3/compressor",
    "extensions/filters/http/cors/v3/cors",
    "extensions/filters/http/ext_authz/v3/ext_authz",
    "extensions/filters/http/fault/v3/fault",
    "extensions/filters/http/grpc_web/v3/grpc_web",
    "extensions/filters/http/header_mutation/v3/header_mutation",
    "extensions/filters/http/jwt_authn/v3/config",
    "extensions/filters/http/local_ratelimit/v3/local_rate_limit",
    "extensions/filters/http/on_demand/v3/on_demand",
    "extensions/filters/http/ratelimit/v3/rate_limit",
    "extensions/filters/http/rbac/v3/rbac",
    "extensions/filters/http/router/v3/router",
    "extensions/filters/http/upstream_codec/v3/upstream_codec",
    "extensions/filters/network/http_connection_manager/v3/http_connection_manager",
    "extensions/http/cache/simple_http_cache/v3/config",
    "extensions/http/early_header_mutation/header_mutation/v3/header_mutation",
    "extensions/rbac/matchers/upstream_ip_port/v3/upstream_ip_port_matcher",
    "extensions/retry/host/previous_hosts/v3/previous_hosts",
    "extensions/transport_sockets/tls/v3/tls",
    "extensions/upstreams/http/v3/http_protocol_options",
    "extensions/bootstrap/internal_listener/v3/internal_listener",
    "extensions/filters/http/lua/v3/lua",
    "config/core/v3/extension",
    "type/matcher/v3/string",
    "type/matcher/v3/regex",
    "type/v3/percent",
    "type/v3/range",
    "type/v3/http_status",
    "config/core/v3/base",
    "config/core/v3/address",
    "config/core/v3/config_source",
    "config/core/v3/grpc_service",
    "config/core/v3/protocol",
    "config/endpoint/v3/endpoint",
    "config/common/mutation_rules/v3/mutation_rules",
];

/// What no JSON depends on.
const NOT_NEEDED: [&str; 5] =
    ["udpa/annotations/", "xds/annotations/", "validate/", "envoy/annotations/", "google/api/http"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root: PathBuf = std::env::args_os().nth(1).ok_or("name the folder proto")?.into();
    let includes = [
        "data-plane-api",
        "xds",
        "googleapis",
        "protoc-gen-validate",
        "cel-spec/proto",
        "client_model",
        "opentelemetry-proto",
        "ratelimit",
    ];
    let (mut files, mut known) = (Vec::new(), BTreeSet::new());
    // One at a time: a name may mean something else where more files are known.
    for file in FILES {
        let mut compiler = protox::Compiler::new(includes.map(|part| root.join(part)))?;
        compiler.include_imports(true).include_source_info(false);
        compiler.open_file(format!("envoy/{file}.proto"))?;
        let compiled = compiler.file_descriptor_set().file;
        files.extend(compiled.into_iter().filter(|file| known.insert(file.name().to_owned())));
    }
    files.retain(|file| !NOT_NEEDED.iter().any(|part| file.name().starts_with(part)));
    files.iter_mut().for_each(reduce);
    let files = reached(files);
    let set = FileDescriptorSet { file: files };
    let out = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/envoy_gateway/descriptors.bin");
    std::fs::write(out, set.encode_to_vec())?;
    Ok(())
}

/// Options are for generators, but for those that a reader needs.
fn reduce(file: &mut FileDescriptorProto) {
    file.options = None;
    file.service.clear();
    file.extension.clear();
    file.dependency.retain(|name| !NOT_NEEDED.iter().any(|part| name.starts_with(part)));
    file.public_dependency.clear();
    file.weak_dependency.clear();
    file.message_type.iter_mut().for_each(reduce_message);
    file.enum_type.iter_mut().for_each(reduce_enum);
}

fn reduce_message(message: &mut DescriptorProto) {
    let map_entry = message.options.as_ref().and_then(|options| options.map_entry);
    message.options =
        map_entry.map(|map| MessageOptions { map_entry: Some(map), ..Default::default() });
    message.field.iter_mut().for_each(|field| field.options = None);
    message.oneof_decl.iter_mut().for_each(|oneof| oneof.options = None);
    message.extension.clear();
    message.nested_type.iter_mut().for_each(reduce_message);
    message.enum_type.iter_mut().for_each(reduce_enum);
}

fn reduce_enum(of: &mut EnumDescriptorProto) {
    let allow_alias = of.options.as_ref().and_then(|options| options.allow_alias);
    of.options =
        allow_alias.map(|allow| EnumOptions { allow_alias: Some(allow), ..Default::default() });
    of.value.iter_mut().for_each(|value| value.options = None);
}

/// Files that those of the list import, by fields that are there.
fn reached(files: Vec<FileDescriptorProto>) -> Vec<FileDescriptorProto> {
    let by_name: BTreeMap<_, _> = files.iter().map(|file| (file.name().to_owned(), file)).collect();
    let mut wanted: Vec<String> = FILES.iter().map(|file| format!("envoy/{file}.proto")).collect();
    let mut seen = BTreeSet::new();
    while let Some(name) = wanted.pop() {
        if seen.insert(name.clone()) {
            wanted.extend(by_name.get(&name).into_iter().flat_map(|file| file.dependency.clone()));
        }
    }
    files.into_iter().filter(|file| seen.contains(file.name())).collect()
}
