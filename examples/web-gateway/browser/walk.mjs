// Tests the example in a browser, with its own instance of Countersign. Started by ../browser-test and by tests/peers/browser.rs.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const { COUNTERSIGN = "target/debug/countersign", WEB_GATEWAY = "target/debug/examples/web-gateway" } = process.env;
const screenshots = process.argv.includes("--screenshots");
const name = "ada";
const password = "correct horse battery staple";
const folder = mkdtempSync(join(tmpdir(), "web-gateway-"));
const started = [];

function start(program, args, env = {}) {
  const child = spawn(program, args, { env: { PATH: process.env.PATH, ...env }, stdio: ["ignore", "pipe", "pipe"] });
  child.output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => (child.output += data));
  started.push(child);
  return child;
}

async function until(what, probe, seconds = 30) {
  const deadline = Date.now() + seconds * 1000;
  for (;;) {
    const found = await probe();
    if (found) return found;
    assert.ok(Date.now() < deadline, `did not happen within ${seconds} s: ${what}`);
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
  assert.equal(page.url(), `${site}/login`, "a visitor who is not logged in is redirected to the login page");

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

  // Another site submits a login form in the browser of a victim. The form lacks the token of that browser.
  const victim = await browser.newContext(view);
  const trap = await victim.newPage();
  await trap.setContent(
    `<form method="post" action="${site}/login"><input name="username" value="${name}">` +
      `<input name="password" value="${password}"><input name="token" value="guess"><button>Win</button></form>`,
  );
  await trap.getByRole("button").click();
  await trap.getByRole("alert").waitFor();
  assert.equal((await cookies(victim))["__Host-cs_rt"], undefined, "another site cannot log a user in");
  await victim.close();
  console.log("another site's login refused");

  await log_in(page, site);
  const user = await page.locator("#user").textContent();
  const session = await page.locator("#session").textContent();
  const before = await cookies(first);
  for (const cookie of [before["__Host-cs_at"], before["__Host-cs_rt"]]) {
    assert.ok(cookie.httpOnly && cookie.secure && cookie.sameSite === "Strict" && cookie.path === "/", "the cookies are protected");
  }
  assert.equal(await page.evaluate(() => document.cookie), "", "scripts cannot read the cookies");
  console.log("logged in");

  await until("the access token expires", async () => !(await cookies(first))["__Host-cs_at"]);
  // The browser opens several pages at once: each one loads, and all have the same session.
  const tabs = await Promise.all(Array.from({ length: 5 }, () => first.newPage()));
  await Promise.all(tabs.map((tab) => tab.goto(`${site}/profile`)));
  for (const tab of tabs) {
    assert.equal(await tab.locator("#user").textContent(), user);
    assert.equal(await tab.locator("#session").textContent(), session, "the same session");
    await tab.close();
  }
  const after = await cookies(first);
  assert.notEqual(after["__Host-cs_rt"].value, before["__Host-cs_rt"].value, "renewed");
  console.log("the tokens were refreshed without a new login");

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
  assert.equal(page.url(), `${site}/login`, "the first browser is logged out");
  const left = await cookies(first);
  assert.ok(!left["__Host-cs_at"] && !left["__Host-cs_rt"], "and its cookies are removed");
  console.log("the first browser is logged out");
}

let browser;
try {
  const ready = join(folder, "ready.json");
  const serve = start(
    COUNTERSIGN,
    ["serve", "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--ready-file", ready],
    {
      COUNTERSIGN_STORAGE__DATA_DIR: join(folder, "data"),
      COUNTERSIGN_USERS__REGISTRATION: "open",
      // Short, so that the test need not wait long for the expiry.
      COUNTERSIGN_TOKENS__ACCESS_TTL: "3s",
      COUNTERSIGN_TOKENS__LEEWAY: "0s",
    },
  );
  await until("countersign serves", () => {
    assert.equal(serve.exitCode, null, serve.output);
    return existsSync(ready);
  });
  const { grpc } = JSON.parse(readFileSync(ready, "utf8"));
  const example = start(WEB_GATEWAY, [`http://${grpc}`, "127.0.0.1:0"]);
  const site = await until("the example serves", () => {
    assert.equal(example.exitCode, null, example.output);
    return example.output.match(/^http:\/\/localhost:\d+$/m)?.[0];
  });
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    // The sandbox of Chromium does not work for root, and CI runs as root. /dev/shm is small in a container.
    args: ["--disable-dev-shm-usage", ...(process.getuid() === 0 ? ["--no-sandbox"] : [])],
  });
  console.log(`Chromium ${browser.version()}`);
  await walk(site, browser);
} finally {
  await browser?.close();
  for (const child of started) child.kill("SIGKILL");
  rmSync(folder, { recursive: true, force: true });
}
