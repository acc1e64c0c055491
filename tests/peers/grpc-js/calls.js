// Makes the four calls with grpc-js, over TLS and with a client certificate: calls.js ADDRESS FOLDER.
"use strict";

const assert = require("node:assert");
const fs = require("node:fs");
const path = require("node:path");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const [address, folder] = process.argv.slice(2);
const read = (name) => fs.readFileSync(path.join(folder, name));
const proto = path.join(__dirname, "../../../proto");
const loaded = loader.loadSync("countersign/v1/token.proto", { includeDirs: [proto], enums: String, defaults: true });
const { TokenService } = grpc.loadPackageDefinition(loaded).countersign.v1;

function connect(...identity) {
  const client = new TokenService(address, grpc.credentials.createSsl(read("ca.crt"), ...identity));
  return (method, request) =>
    new Promise((resolve, reject) => {
      const deadline = new Date(Date.now() + 10_000);
      client[method](request, { deadline }, (error, answer) => (error ? reject(error) : resolve(answer)));
    });
}

async function main() {
  const anonymous = connect();
  const known = connect(read("client.key"), read("client.crt"));
  const password = { username: "ada", password: process.env.PEER_PASSWORD };
  const first = (await anonymous("Issue", { password })).tokens;
  const asked = { accessToken: first.accessToken };
  await assert.rejects(anonymous("Validate", asked), (error) => error.code === grpc.status.UNAUTHENTICATED);
  assert.strictEqual((await known("Validate", asked)).active, true);
  const second = await anonymous("Refresh", { refreshToken: first.refreshToken });
  assert.strictEqual(second.outcome, "REFRESH_OUTCOME_ROTATED");
  const ended = await anonymous("Revoke", { token: second.tokens.refreshToken });
  assert.strictEqual(ended.sessionsRevoked, 1);
  assert.strictEqual((await known("Validate", asked)).reason, "INACTIVE_REASON_REVOKED");
  console.log("good");
  process.exit(0);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
