// Verifies tokens with `jose` and `jsonwebtoken`: reads {"jwks", "issuer", "audience", "tokens"} from standard input and
// writes one verdict per token and library.

"use strict";

const crypto = require("node:crypto");
const fs = require("node:fs");
const http = require("node:http");
const jose = require("jose");
const jsonwebtoken = require("jsonwebtoken");

const asked = JSON.parse(fs.readFileSync(0, "utf8"));
const { issuer, audience } = asked;
const remote = jose.createRemoteJWKSet(new URL(asked.jwks));

async function byJose(token) {
    const rules = { issuer, audience, typ: "at+jwt", requiredClaims: ["sub", "exp", "iat", "jti", "client_id"] };
    const { payload } = await jose.jwtVerify(token, remote, rules);
    return payload.sub;
}

// `jsonwebtoken` takes keys, not sets: Node.js converts the JWK.
async function byJsonwebtoken(token, keys) {
    const { kid } = jsonwebtoken.decode(token, { complete: true }).header;
    const jwk = keys.find((key) => key.kid === kid);
    if (jwk === undefined) {
        throw new Error("unknown kid");
    }
    const key = crypto.createPublicKey({ key: jwk, format: "jwk" });
    return jsonwebtoken.verify(token, key, { algorithms: [jwk.alg], issuer, audience }).sub;
}

function fetched(url) {
    return new Promise((resolve, reject) => {
        http.get(url, (answer) => {
            let text = "";
            answer.setEncoding("utf8");
            answer.on("data", (piece) => (text += piece));
            answer.on("end", () => resolve(JSON.parse(text)));
        }).on("error", reject);
    });
}

const verdict = (work) =>
    work.then(
        (subject) => ({ subject }),
        (error) => ({ refused: `${error.name}: ${error.message}` }),
    );

async function main() {
    const { keys } = await fetched(asked.jwks);
    const all = (by) => Promise.all(asked.tokens.map((token) => verdict(by(token, keys))));
    const verdicts = { jose: await all(byJose), jsonwebtoken: await all(byJsonwebtoken) };
    process.stdout.write(JSON.stringify(verdicts));
}

main();
