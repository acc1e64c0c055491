<?php
// Prints hashes as make.py does: WordPress since 6.8, by the two calls of its wp_hash_password().
//   apt-get install php-cli && php make.php > php.jsonl
foreach (['correct horse', 'pässwörd ☃ 🐎', "a\u{0308} decomposed", str_repeat('x', 80)] as $password) {
    $hash = '$wp' . password_hash(base64_encode(hash_hmac('sha384', $password, 'wp-sha384', true)), PASSWORD_BCRYPT, ['cost' => 4]);
    echo json_encode(['tool' => 'PHP ' . PHP_VERSION, 'format' => 'WordPress 6.8', 'password' => $password, 'hash' => $hash]), "\n";
}
