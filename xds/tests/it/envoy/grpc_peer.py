"""Two servers that say their names, and a client that finds them by xDS.

For each line on stdin it makes a call and prints the answer.
"""

import concurrent.futures
import sys

import grpc


def server(name):
    class Handler(grpc.GenericRpcHandler):
        def service(self, details):
            return grpc.unary_unary_rpc_method_handler(lambda request, context: name)

    server = grpc.server(concurrent.futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers([Handler()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


servers = [server(b"one"), server(b"two")]
print(*(port for _, port in servers), flush=True)
channel = grpc.insecure_channel("xds:///service")
call = channel.unary_unary("/any/Call")
for _ in sys.stdin:
    try:
        print(call(b"", timeout=10, wait_for_ready=True).decode(), flush=True)
    except grpc.RpcError as error:
        print(error.code(), error.details(), flush=True)
