// Makes the four calls with the stubs of ts-proto, over TLS and with a client certificate: calls.js ADDRESS FOLDER.

import * as assert from "node:assert";
import * as fs from "node:fs";
import * as path from "node:path";
import * as grpc from "@grpc/grpc-js";
import { InactiveReason } from "./generated/countersign/v1/reason";
import {
  IssueRequest,
  IssueResponse,
  RefreshOutcome,
  RefreshRequest,
  RefreshResponse,
  RevokeRequest,
  RevokeResponse,
  TokenServiceClient,
  ValidateRequest,
  ValidateResponse,
} from "./generated/countersign/v1/token";

const [address, folder] = process.argv.slice(2);
const read = (name: string): Buffer => fs.readFileSync(path.join(folder, name));

function connect(...identity: [] | [Buffer, Buffer]): TokenServiceClient {
  // Requests are compressed with gzip.
  const options = { "grpc.default_compression_algorithm": grpc.compressionAlgorithms.gzip };
  return new TokenServiceClient(address, grpc.credentials.createSsl(read("ca.crt"), ...identity), options);
}

type Method<Q, A> = (
  request: Q,
  metadata: grpc.Metadata,
  options: Partial<grpc.CallOptions>,
  callback: (error: grpc.ServiceError | null, answer: A) => void,
) => grpc.ClientUnaryCall;

function call<Q, A>(client: TokenServiceClient, method: Method<Q, A>, request: Q): Promise<A> {
  return new Promise((resolve, reject) => {
    const deadline = new Date(Date.now() + 60_000);
    const done = (error: grpc.ServiceError | null, answer: A): void => (error ? reject(error) : resolve(answer));
    method.call(client, request, new grpc.Metadata(), { deadline }, done);
  });
}

async function main(): Promise<void> {
  const anonymous = connect();
  const known = connect(read("client.key"), read("client.crt"));
  const issue = (request: IssueRequest): Promise<IssueResponse> => call(anonymous, anonymous.issue, request);
  const refresh = (request: RefreshRequest): Promise<RefreshResponse> => call(anonymous, anonymous.refresh, request);
  const revoke = (request: RevokeRequest): Promise<RevokeResponse> => call(anonymous, anonymous.revoke, request);
  const validate = (client: TokenServiceClient, accessToken: string): Promise<ValidateResponse> =>
    call(client, client.validate, ValidateRequest.create({ accessToken }));

  const password = { username: "ada", password: process.env.PEER_PASSWORD ?? "" };
  const first = (await issue(IssueRequest.create({ password }))).tokens;
  assert.ok(first);
  const isUnauthenticated = (error: grpc.ServiceError): boolean => error.code === grpc.status.UNAUTHENTICATED;
  await assert.rejects(validate(anonymous, first.accessToken), isUnauthenticated);
  assert.strictEqual((await validate(known, first.accessToken)).active, true);
  const second = await refresh(RefreshRequest.create({ refreshToken: first.refreshToken }));
  assert.strictEqual(second.outcome, RefreshOutcome.REFRESH_OUTCOME_ROTATED);
  const ended = await revoke(RevokeRequest.create({ token: second.tokens?.refreshToken }));
  assert.strictEqual(ended.sessionsRevoked, 1);
  const inactive = await validate(known, first.accessToken);
  assert.strictEqual(inactive.reason, InactiveReason.INACTIVE_REASON_REVOKED);
  console.log("good");
  process.exit(0);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
