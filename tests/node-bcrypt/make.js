// Prints users as an Express or Mongoose application keeps them: one JSON object a line, hashes made by Node's `bcrypt`.
//   npm ci && node make.js COUNT COST > users.jsonl
// The password of number N is as `password()` says; tests/e2e/node_bcrypt.rs says the same.
const bcrypt = require('bcrypt');

const password = (n) => `node ${n} kéyboard 🐎 battery`;

(async () => {
  const [count, cost] = process.argv.slice(2).map(Number);
  for (let n = 0; n < count; n++) {
    // Every other hash has the older name of the same algorithm, as many databases do.
    const salt = await bcrypt.genSalt(cost, n % 2 === 0 ? 'b' : 'a');
    const password_hash = await bcrypt.hash(password(n), salt);
    console.log(JSON.stringify({ username: `node${n}`, password_hash }));
  }
})();
