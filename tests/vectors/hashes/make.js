// Prints hashes as make.py does, made by packages of npm:
//   npm install firebase-scrypt@2.2.0 aspnet-identity-pw@1.0.2 && node make.js > node.jsonl
const { randomBytes } = require('crypto');
const { promisify } = require('util');
const { FirebaseScrypt } = require('firebase-scrypt');
const identity = promisify(require('aspnet-identity-pw').hashPassword);

const passwords = ['correct horse', 'pässwörd ☃ 🐎', 'a\u0308 decomposed', 'x'.repeat(80)];
const line = (tool, format, password, hash) => console.log(JSON.stringify({ tool, format, password, hash }));

(async () => {
  for (const password of passwords) {
    for (const memCost of [10, 14]) {
      const project = {
        memCost, rounds: 8, saltSeparator: 'Bw==', signerKey: randomBytes(64).toString('base64'),
      };
      const salt = randomBytes(10).toString('base64');
      const hash = await new FirebaseScrypt(project).hash(password, salt);
      const [n, r, ss, sk] = [project.memCost, project.rounds, project.saltSeparator, project.signerKey];
      line('firebase-scrypt 2.2.0', 'Firebase', password, `$fbscrypt$v=1,n=${n},r=${r},p=1,ss=${ss},sk=${sk}$${salt}$${hash}`);
    }
    line('aspnet-identity-pw 1.0.2', 'Identity v2', password, await identity(password));
  }
})();
