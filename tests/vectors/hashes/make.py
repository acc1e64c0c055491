"""Prints hashes made by the tools that applications use, one JSON object a line: tool, format, password, hash.

    python3 -m venv venv && venv/bin/pip install passlib==1.7.4 bcrypt==4.0.1 argon2-cffi==25.1.0 werkzeug==3.1.9 Django==5.2.19
    venv/bin/python make.py > python.jsonl

`crypt` is the C library of the machine (Debian 12: libxcrypt 4.4.33); Python 3.13 and newer no longer have the module.
"""

import base64
import crypt
import hashlib
import json
import struct

import argon2
import django
from django.conf import settings
from passlib import hash as passlib
from werkzeug.security import generate_password_hash

settings.configure()
django.setup()
from django.contrib.auth import hashers  # noqa: E402 (needs the settings)

PASSWORDS = ["correct horse", "pässwörd ☃ 🐎", "a\u0308 decomposed", "x" * 80]


def line(tool, form, password, value):
    print(json.dumps({"tool": tool, "format": form, "password": password, "hash": value}))


class Cheap:
    """Django's hashers with the cost of a test instead of a login."""

    class Scrypt(hashers.ScryptPasswordHasher):
        work_factor, parallelism = 1024, 2

    class Argon2(hashers.Argon2PasswordHasher):
        time_cost, memory_cost, parallelism = 1, 64, 1

    class BCryptSHA256(hashers.BCryptSHA256PasswordHasher):
        rounds = 4

    class BCrypt(hashers.BCryptPasswordHasher):
        rounds = 4


def of_django(password):
    for hasher in [hashers.PBKDF2PasswordHasher(), hashers.PBKDF2SHA1PasswordHasher()]:
        value = hasher.encode(password, hasher.salt(), 1000)
        line("Django 5.2.19", hasher.algorithm, password, value)
    for hasher in [Cheap.Scrypt(), Cheap.Argon2(), Cheap.BCryptSHA256(), Cheap.BCrypt()]:
        if hasher.algorithm == "bcrypt" and len(password) > 72:
            continue
        line("Django 5.2.19", hasher.algorithm, password, hasher.encode(password, hasher.salt()))


def of_werkzeug(password):
    for method in ["scrypt:1024:8:2", "pbkdf2:sha1:1000", "pbkdf2:sha256:1000", "pbkdf2:sha512:1000"]:
        line("Werkzeug 3.1.9", method.rsplit(":", 1)[0], password, generate_password_hash(password, method))
    line("Werkzeug 3.1.9", "salt of 8", password, generate_password_hash(password, "pbkdf2:sha256:1000", salt_length=8))


def of_passlib(password):
    for name, scheme in {
        "bcrypt_sha256 v2": passlib.bcrypt_sha256.using(rounds=4, version=2),
        "bcrypt_sha256 v1": passlib.bcrypt_sha256.using(rounds=4, version=1),
        "bcrypt_sha256 v1, 2a": passlib.bcrypt_sha256.using(rounds=4, version=1, ident="2a"),
        "bcrypt 2y": passlib.bcrypt.using(rounds=4, ident="2y"),
        "pbkdf2_sha1": passlib.pbkdf2_sha1.using(rounds=1000),
        "pbkdf2_sha256": passlib.pbkdf2_sha256.using(rounds=1000),
        "pbkdf2_sha512": passlib.pbkdf2_sha512.using(rounds=1000),
        "scrypt": passlib.scrypt.using(rounds=10, block_size=8, parallelism=2),
        "phpass": passlib.phpass.using(rounds=8),
        "phpass H": passlib.phpass.using(rounds=8, ident="H"),
        "sha256_crypt": passlib.sha256_crypt.using(rounds=1000),
        "sha256_crypt, default rounds": passlib.sha256_crypt.using(rounds=5000),
        "sha512_crypt": passlib.sha512_crypt.using(rounds=1000),
        "sha512_crypt, default rounds": passlib.sha512_crypt.using(rounds=5000),
        "sha512_crypt, short salt": passlib.sha512_crypt.using(rounds=1000, salt="ab"),
        "ldap_sha512_crypt": passlib.ldap_sha512_crypt.using(rounds=1000),
        "ldap_bcrypt": passlib.ldap_bcrypt.using(rounds=4),
        "ldap_salted_sha1": passlib.ldap_salted_sha1,
        "ldap_salted_sha1, salt of 4": passlib.ldap_salted_sha1.using(salt_size=4),
        "ldap_salted_sha256": passlib.ldap_salted_sha256,
        "ldap_salted_sha512": passlib.ldap_salted_sha512,
    }.items():
        line("passlib 1.7.4", name, password, scheme.hash(password))


def of_argon2(password):
    for kind in argon2.Type:
        for version in (16, 19):
            salt = hashlib.sha256(password.encode() + kind.name.encode()).digest()[:16]
            value = argon2.low_level.hash_secret(
                password.encode(), salt, time_cost=2, memory_cost=64, parallelism=2, hash_len=32, type=kind, version=version
            )
            line("argon2-cffi 25.1.0", f"argon2{kind.name.lower()} v{version}", password, value.decode())


def of_crypt(password):
    for setting in [
        "$2a$04$/OK.fbVrR/bpIqNJ5ianF.",
        "$2b$04$/OK.fbVrR/bpIqNJ5ianF.",
        "$2x$04$/OK.fbVrR/bpIqNJ5ianF.",
        "$2y$04$/OK.fbVrR/bpIqNJ5ianF.",
        "$5$rounds=1000$saltsaltsaltsalt",
        "$5$saltstring",
        "$6$rounds=1000$saltsaltsaltsalt",
        "$6$saltstring",
    ]:
        line("libxcrypt 4.4.33", setting[:4].rstrip("$") + "$", password, crypt.crypt(password, setting))


def of_identity(password):
    """ASP.NET Core Identity's version 3, from the bytes that its source documents; no tool of its own runs here."""
    for number, name in enumerate(["sha1", "sha256", "sha512"]):
        salt = hashlib.sha256(name.encode()).digest()[:16]
        key = hashlib.pbkdf2_hmac(name, password.encode(), salt, 1000, 32)
        value = b"\x01" + struct.pack(">III", number, 1000, len(salt)) + salt + key
        line("built from the documented bytes", f"Identity v3, {name}", password, base64.b64encode(value).decode())


for password in PASSWORDS:
    of_django(password)
    of_werkzeug(password)
    of_passlib(password)
    of_argon2(password)
    of_crypt(password)
    of_identity(password)
