"""Makes the four calls with grpcio, over TLS and with a client certificate: calls.py ADDRESS FOLDER.

Requests are compressed with gzip."""

import os
import sys
from pathlib import Path

import grpc
from countersign.v1 import reason_pb2 as reasons
from countersign.v1 import token_pb2 as messages
from countersign.v1.token_pb2_grpc import TokenServiceStub

address, folder = sys.argv[1], Path(sys.argv[2])


def read(name):
    return (folder / name).read_bytes()


def connect(**identity):
    credentials = grpc.ssl_channel_credentials(read("ca.crt"), **identity)
    return TokenServiceStub(grpc.secure_channel(address, credentials, compression=grpc.Compression.Gzip))


anonymous = connect()
known = connect(private_key=read("client.key"), certificate_chain=read("client.crt"))

password = messages.PasswordCredential(username="ada", password=os.environ["PEER_PASSWORD"])
first = anonymous.Issue(messages.IssueRequest(password=password), timeout=10).tokens
asked = messages.ValidateRequest(access_token=first.access_token)
try:
    anonymous.Validate(asked, timeout=10)
    sys.exit("a caller without a certificate may validate")
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.UNAUTHENTICATED, error
assert known.Validate(asked, timeout=10).active
second = anonymous.Refresh(messages.RefreshRequest(refresh_token=first.refresh_token), timeout=10)
assert second.outcome == messages.REFRESH_OUTCOME_ROTATED
assert anonymous.Revoke(messages.RevokeRequest(token=second.tokens.refresh_token), timeout=10).sessions_revoked == 1
inactive = known.Validate(asked, timeout=10)
assert not inactive.active and inactive.reason == reasons.INACTIVE_REASON_REVOKED, inactive
print("good")
