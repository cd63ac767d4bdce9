// What an HTTP filter of a dynamic module costs at least, for `enforce --beside` (bench/README.md): the
// calls into Envoy that a decision needs, without a decision. LEVEL 0 does nothing, and each does more:
// 1 has an object for each stream, 2 reads headers and metadata, 3 adds four headers, 4 removes the key,
// 5 adds two headers to the answer. It lets every call pass.
//   cc -O2 -fPIC -shared -DLEVEL=5 -o floor5.so bench/src/enforce/floor.c
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
typedef struct { const char* p; size_t n; } B;
typedef struct { B k, v; } H;
typedef void* P;
#define H_(n) envoy_dynamic_module_on_##n
#define C_(n) envoy_dynamic_module_callback_##n
extern bool C_(http_get_cluster_name)(P, B*);
extern size_t C_(http_get_headers_size)(P, uint32_t);
extern bool C_(http_get_headers)(P, uint32_t, H*);
extern bool C_(http_get_metadata_string)(P, uint32_t, B, B, B*);
extern bool C_(http_add_header)(P, uint32_t, B, B);
extern bool C_(http_set_header)(P, uint32_t, B, B);
#define S(s) ((B){s, sizeof(s) - 1})
#ifndef LEVEL
#define LEVEL 0
#endif
const char* H_(program_init)(void) { return "v0.2.0"; }
const void* H_(http_filter_config_new)(P a, B b, B c) { return (void*)8; }
void H_(http_filter_config_destroy)(P a) {}
const void* H_(http_filter_per_route_config_new)(B a, B b) { return (void*)8; }
void H_(http_filter_per_route_config_destroy)(P a) {}
const void* H_(http_filter_new)(P c, P s) {
#if LEVEL >= 1
  char* o = malloc(120); memset(o, 0, 16); return o;
#else
  return (void*)8;
#endif
}
void H_(http_filter_destroy)(P f) {
#if LEVEL >= 1
  free(f);
#endif
}
static volatile size_t sink;
uint32_t H_(http_filter_request_headers)(P s, P f, bool e) {
#if LEVEL >= 2
  B none = {0, 0}, v = {0, 0};
  C_(http_get_cluster_name)(s, &none);
  size_t n = C_(http_get_headers_size)(s, 0);
  H h[64];
  if (n > 64) return 1;
  C_(http_get_headers)(s, 0, h);
  size_t found = 0;
  for (size_t i = 0; i < n; i++) if (h[i].k.n == 9 && !memcmp(h[i].k.p, "x-api-key", 9)) found = h[i].v.n;
  C_(http_get_metadata_string)(s, 1, S("imp.door"), S("route"), &v);
  found += v.n;
  C_(http_get_metadata_string)(s, 1, S("imp.door"), S("keys"), &v);
  sink = found;
#endif
#if LEVEL >= 3
  B id = S("00000004-0000-7000-8000-000000000123");
  C_(http_add_header)(s, 0, S("x-imp-consumer"), id);
  C_(http_add_header)(s, 0, S("x-imp-subscription"), id);
  C_(http_add_header)(s, 0, S("x-imp-customer"), id);
  C_(http_add_header)(s, 0, S("x-imp-plan"), id);
#endif
#if LEVEL >= 4
  C_(http_set_header)(s, 0, S("x-api-key"), (B){0, 0});
#endif
  return 0;
}
uint32_t H_(http_filter_request_body)(P s, P f, bool e) { return 0; }
uint32_t H_(http_filter_request_trailers)(P s, P f) { return 0; }
uint32_t H_(http_filter_response_headers)(P s, P f, bool e) {
#if LEVEL >= 5
  size_t n = C_(http_get_headers_size)(s, 2);
  H h[64];
  if (n > 64) return 0;
  C_(http_get_headers)(s, 2, h);
  size_t found = 0;
  for (size_t i = 0; i < n; i++) if (h[i].k.n == 9 && !memcmp(h[i].k.p, "ratelimit", 9)) found = h[i].v.n;
  sink = found;
  C_(http_add_header)(s, 2, S("ratelimit-policy"), S("\"rate\";q=1000000000000;w=60"));
  C_(http_add_header)(s, 2, S("ratelimit"), S("\"rate\";r=999999999999;t=60"));
#endif
  return 0;
}
void H_(http_filter_stream_complete)(P s, P f) {}
uint32_t H_(http_filter_response_body)(P s, P f, bool e) { return 0; }
uint32_t H_(http_filter_response_trailers)(P s, P f) { return 0; }
void H_(http_filter_scheduled)(P s, P f, uint64_t i) {}
void H_(http_filter_http_callout_done)(P s, P f, uint64_t i, uint32_t r, H* h, size_t n, B* b, size_t m) {}
void H_(http_filter_http_stream_headers)(P s, P f, uint64_t i, H* h, size_t n, bool e) {}
void H_(http_filter_http_stream_data)(P s, P f, uint64_t i, B* b, size_t n, bool e) {}
void H_(http_filter_http_stream_trailers)(P s, P f, uint64_t i, H* h, size_t n) {}
void H_(http_filter_http_stream_complete)(P s, P f, uint64_t i) {}
void H_(http_filter_http_stream_reset)(P s, P f, uint64_t i, uint32_t r) {}
void H_(http_filter_downstream_above_write_buffer_high_watermark)(P s, P f) {}
void H_(http_filter_downstream_below_write_buffer_low_watermark)(P s, P f) {}
