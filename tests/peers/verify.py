"""Verifies tokens with PyJWT: reads {"jwks", "issuer", "audience", "tokens"} and writes one verdict per token."""

import json
import sys

import jwt

asked = json.load(sys.stdin)
keys = jwt.PyJWKClient(asked["jwks"])


def verdict(token):
    try:
        key = keys.get_signing_key_from_jwt(token)
        claims = jwt.decode(
            token,
            key,
            algorithms=["EdDSA", "ES256", "RS256"],
            issuer=asked["issuer"],
            audience=asked["audience"],
            options={"require": ["iss", "sub", "aud", "exp", "iat", "jti"]},
        )
        return {"subject": claims["sub"]}
    except jwt.PyJWTError as refused:
        return {"refused": f"{type(refused).__name__}: {refused}"}


json.dump({"PyJWT": [verdict(token) for token in asked["tokens"]]}, sys.stdout)
