//! What Envoy calls, beside what was read in its header.

use std::any::type_name;

use super::*;
use crate::abi::Header;
use crate::abi::tests::functions;
use crate::hooks::envoy_dynamic_module_on_program_init;

/// A hook's arguments and its result.
trait Signature {
    fn types() -> (Vec<&'static str>, &'static str);
}

macro_rules! signatures {
    ($(($($argument:ident)*))*) => { $(
        impl<$($argument,)* R> Signature for extern "C" fn($($argument),*) -> R {
            fn types() -> (Vec<&'static str>, &'static str) {
                (vec![$(type_name::<$argument>()),*], type_name::<R>())
            }
        }
    )* };
}

signatures!(() (A) (A B) (A B C) (A B C D) (A B C D E) (A B C D E F) (A B C D E F G H));

fn types<F: Signature>(_: F) -> (Vec<&'static str>, &'static str) {
    F::types()
}

/// The hooks with their names. The underscores are their arguments.
macro_rules! hooks {
    ($($module:ident::$name:ident($($_:tt)*);)*) => { [$(
        (stringify!($name), types($module::$name as hooks!(@ $($_)*))),
    )*] };
    (@ $($_:tt)*) => { extern "C" fn($($_)*) -> _ };
}

/// What a type of ours is in C, as far as a call goes.
fn in_c(own: &str) -> Vec<&'static str> {
    match own {
        "()" => vec![""],
        "bool" => vec!["bool"],
        "u32" => vec!["enum", "u32"],
        "u64" => vec!["u64"],
        "usize" => vec!["size"],
        _ if own == type_name::<Buffer>() => vec!["bytes"],
        _ if own == type_name::<*const Buffer>() => vec!["*bytes"],
        _ if own == type_name::<*const Header>() => vec!["*header"],
        _ if own.starts_with('*') => vec!["pointer"],
        other => panic!("{other} has no equal"),
    }
}

#[test]
fn each_hook_is_as_envoy_calls_it() {
    let mut own: Vec<_> = hooks! {
        http::envoy_dynamic_module_on_http_filter_config_new(_, _, _);
        http::envoy_dynamic_module_on_http_filter_config_destroy(_);
        http::envoy_dynamic_module_on_http_filter_per_route_config_new(_, _);
        http::envoy_dynamic_module_on_http_filter_per_route_config_destroy(_);
        http::envoy_dynamic_module_on_http_filter_new(_, _);
        http::envoy_dynamic_module_on_http_filter_destroy(_);
        http::envoy_dynamic_module_on_http_filter_request_headers(_, _, _);
        http::envoy_dynamic_module_on_http_filter_request_body(_, _, _);
        http::envoy_dynamic_module_on_http_filter_request_trailers(_, _);
        http::envoy_dynamic_module_on_http_filter_response_headers(_, _, _);
        http::envoy_dynamic_module_on_http_filter_response_body(_, _, _);
        http::envoy_dynamic_module_on_http_filter_response_trailers(_, _);
        http::envoy_dynamic_module_on_http_filter_stream_complete(_, _);
        http::envoy_dynamic_module_on_http_filter_scheduled(_, _, _);
        http::envoy_dynamic_module_on_http_filter_http_callout_done(_, _, _, _, _, _, _, _);
        http::envoy_dynamic_module_on_http_filter_http_stream_headers(_, _, _, _, _, _);
        http::envoy_dynamic_module_on_http_filter_http_stream_data(_, _, _, _, _, _);
        http::envoy_dynamic_module_on_http_filter_http_stream_trailers(_, _, _, _, _);
        http::envoy_dynamic_module_on_http_filter_http_stream_complete(_, _, _);
        http::envoy_dynamic_module_on_http_filter_http_stream_reset(_, _, _, _);
        http::envoy_dynamic_module_on_http_filter_downstream_above_write_buffer_high_watermark(_, _);
        http::envoy_dynamic_module_on_http_filter_downstream_below_write_buffer_low_watermark(_, _);
        early::envoy_dynamic_module_on_early_header_mutation_config_new(_, _, _);
        early::envoy_dynamic_module_on_early_header_mutation_config_destroy(_);
        early::envoy_dynamic_module_on_early_header_mutation_mutate(_, _);
    }
    .into();
    let init = types(envoy_dynamic_module_on_program_init as extern "C" fn() -> _);
    own.push(("envoy_dynamic_module_on_program_init", init));
    let mut known = functions("hook");
    for (name, (arguments, result)) in own {
        let name = name.strip_prefix("envoy_dynamic_module_on_").unwrap();
        let (theirs, their_result) = known.remove(name).unwrap_or_else(|| panic!("{name}?"));
        assert_eq!(arguments.len(), theirs.len(), "{name}");
        for (own, their) in arguments.iter().zip(&theirs) {
            assert!(in_c(own).contains(&their.as_str()), "{name}: {own} is no {their}");
        }
        assert!(in_c(result).contains(&their_result.as_str()), "{name}: {result}");
    }
    assert!(known.is_empty(), "no such hooks: {known:?}");
}
