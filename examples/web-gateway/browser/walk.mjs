// Walks through the example, with a Countersign of its own. See ../browser-test.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const screenshots = process.argv.includes("--screenshots");
const name = "ada";
const password = "correct horse battery staple";
const folder = mkdtempSync(join(tmpdir(), "web-gateway-"));
const started = [];

function start(program, words, env = {}) {
  const child = spawn(program, words, { env: { PATH: process.env.PATH, ...env }, stdio: ["ignore", "pipe", "pipe"] });
  child.said = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => (child.said += data));
  started.push(child);
  return child;
}

async function until(what, probe, seconds = 30) {
  const deadline = Date.now() + seconds * 1000;
  for (;;) {
    const found = await probe();
    if (found) return found;
    assert.ok(Date.now() < deadline, `not within ${seconds} s: ${what}`);
    await new Promise((wake) => setTimeout(wake, 50));
  }
}

async function log_in(page, site) {
  await page.goto(`${site}/login`);
  await page.getByLabel("Name").fill(name);
  await page.getByLabel("Password").fill(password);
  await page.getByRole("button", { name: "Log in" }).click();
  await page.waitForURL(`${site}/profile`);
}

async function cookies(context) {
  return Object.fromEntries((await context.cookies()).map((cookie) => [cookie.name, cookie]));
}

async function shoot(page, name) {
  if (screenshots) await page.screenshot({ path: `docs/web-gateway-${name}.png` });
}

async function walk(site, browser) {
  const view = { viewport: { width: 640, height: 470 } };
  const first = await browser.newContext(view);
  const page = await first.newPage();

  await page.goto(`${site}/profile`);
  assert.equal(page.url(), `${site}/login`, "strangers are sent to log in");

  await page.goto(`${site}/register`);
  await page.getByLabel("Name").fill(name);
  await page.getByLabel("Password").fill("too short");
  await page.getByRole("button", { name: "Register" }).click();
  await page.getByRole("alert").waitFor();
  await page.getByLabel("Name").fill(name);
  await page.getByLabel("Password").fill(password);
  await page.getByRole("button", { name: "Register" }).click();
  await page.waitForURL(`${site}/login`);
  await shoot(page, "login");
  console.log("registered");

  // Another site logs its visitor in: the form has no token of this browser's.
  const victim = await browser.newContext(view);
  const trap = await victim.newPage();
  await trap.setContent(
    `<form method="post" action="${site}/login"><input name="username" value="${name}">` +
      `<input name="password" value="${password}"><input name="token" value="guess"><button>Win</button></form>`,
  );
  await trap.getByRole("button").click();
  await trap.getByRole("alert").waitFor();
  assert.equal((await cookies(victim))["__Host-cs_rt"], undefined, "nobody is logged in by another site");
  await victim.close();
  console.log("another site's login refused");

  await log_in(page, site);
  const user = await page.locator("#user").textContent();
  const session = await page.locator("#session").textContent();
  const before = await cookies(first);
  for (const cookie of [before["__Host-cs_at"], before["__Host-cs_rt"]]) {
    assert.ok(cookie.httpOnly && cookie.secure && cookie.sameSite === "Strict" && cookie.path === "/", "kept to itself");
  }
  assert.equal(await page.evaluate(() => document.cookie), "", "scripts see nothing");
  console.log("logged in");

  await until("the access token expires", async () => !(await cookies(first))["__Host-cs_at"]);
  // A browser that opens many things at once: all are answered, and hold one and the same successor.
  const tabs = await Promise.all(Array.from({ length: 5 }, () => first.newPage()));
  await Promise.all(tabs.map((tab) => tab.goto(`${site}/profile`)));
  for (const tab of tabs) {
    assert.equal(await tab.locator("#user").textContent(), user);
    assert.equal(await tab.locator("#session").textContent(), session, "the same session");
    await tab.close();
  }
  const after = await cookies(first);
  assert.notEqual(after["__Host-cs_rt"].value, before["__Host-cs_rt"].value, "renewed");
  console.log("renewed, unnoticed");

  const second = await browser.newContext(view);
  const elsewhere = await second.newPage();
  await log_in(elsewhere, site);
  assert.equal(await elsewhere.locator("#sessions li").count(), 2, "both browsers are listed");
  await shoot(elsewhere, "profile");
  await elsewhere.getByRole("button", { name: "Log out everywhere" }).click();
  await elsewhere.waitForURL(`${site}/`);
  assert.equal((await cookies(second))["__Host-cs_rt"], undefined);
  console.log("logged out everywhere, from the second browser");

  await page.goto(`${site}/profile`);
  assert.equal(page.url(), `${site}/login`, "the first browser is out");
  const gone = await cookies(first);
  assert.ok(!gone["__Host-cs_at"] && !gone["__Host-cs_rt"], "and has forgotten its cookies");
  console.log("the first browser is out");
}

let browser;
try {
  const ready = join(folder, "ready.json");
  const serve = start(
    "target/debug/countersign",
    ["serve", "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--ready-file", ready],
    {
      COUNTERSIGN_STORAGE__DATA_DIR: join(folder, "data"),
      COUNTERSIGN_USERS__REGISTRATION: "open",
      // So short that waiting for it is no trouble.
      COUNTERSIGN_TOKENS__ACCESS_TTL: "3s",
      COUNTERSIGN_TOKENS__LEEWAY: "0s",
    },
  );
  await until("countersign serves", () => {
    assert.equal(serve.exitCode, null, serve.said);
    return existsSync(ready);
  });
  const { grpc } = JSON.parse(readFileSync(ready, "utf8"));
  const example = start("target/debug/examples/web-gateway", [`http://${grpc}`, "127.0.0.1:0"]);
  const site = await until("the example serves", () => {
    assert.equal(example.exitCode, null, example.said);
    return example.said.match(/^http:\/\/localhost:\d+$/m)?.[0];
  });
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    // Chromium's sandbox does not run as root, and CI does.
    args: process.getuid() === 0 ? ["--no-sandbox"] : [],
  });
  console.log(`Chromium ${browser.version()}`);
  await walk(site, browser);
} finally {
  await browser?.close();
  for (const child of started) child.kill("SIGKILL");
  rmSync(folder, { recursive: true, force: true });
}
