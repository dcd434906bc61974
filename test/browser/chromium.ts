/** A real browser: Debian's chromium, driven by playwright-core, which brings none of its own. */
import { existsSync } from "node:fs";
import type { TestContext } from "node:test";
import { chromium, type Browser, type Page } from "playwright-core";
import type { Cleanup } from "../support/database.ts";

const PATHS = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
const executablePath = PATHS.find(existsSync);

/** Said in place of the tests where there is no browser. */
export const WITHOUT: string | false =
  executablePath === undefined ? "no chromium here: apt-get install chromium" : false;

/** Nothing on a page takes this long, milliseconds; a broken page is a red test, not a hanging one. */
const STEP_MS = 10_000;

/** Starts one for a test file, or undefined where there is none. */
export async function startBrowser(t: Cleanup): Promise<Browser | undefined> {
  if (executablePath === undefined) return undefined;
  const browser = await chromium.launch({
    executablePath,
    timeout: 30_000,
    // As root its sandbox cannot be had.
    args: ["--disable-gpu", ...(process.getuid?.() === 0 ? ["--no-sandbox"] : [])],
  });
  t.after(() => browser.close());
  return browser;
}

/** A page, and whatever on it must not happen. */
export interface Watched {
  readonly page: Page;
  /** Requests to anywhere but `origins`, dialogs, errors of the page, what its policy blocked. */
  readonly alarms: string[];
  /** Ends the test red if there was one. */
  calm(): void;
}

/** Opens a page of a fresh profile. @param o.origins where its requests may go */
export async function watched(
  t: TestContext,
  browser: Browser | undefined,
  o: { origins: readonly string[]; javaScriptEnabled?: boolean; viewport?: { width: number; height: number } },
): Promise<Watched> {
  if (browser === undefined) throw new Error("no browser");
  const { javaScriptEnabled = true, viewport = { width: 1_000, height: 800 } } = o;
  const context = await browser.newContext({ javaScriptEnabled, viewport });
  t.after(() => context.close());
  context.setDefaultTimeout(STEP_MS);
  const page = await context.newPage();
  const alarms: string[] = [];
  page.on("dialog", (dialog) => {
    alarms.push(`dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.on("pageerror", (error) => void alarms.push(`error: ${error.message}`));
  page.on("console", (message) => {
    if (message.type() === "error" && !/status of 4\d\d/.test(message.text()))
      alarms.push(`console: ${message.text()}`);
  });
  page.on("popup", () => void alarms.push("popup"));
  page.on("request", (request) => {
    if (!o.origins.includes(new URL(request.url()).origin)) alarms.push(`request: ${request.url()}`);
  });
  return {
    page,
    alarms,
    calm() {
      if (alarms.length > 0) throw new Error(alarms.join("\n"));
    },
  };
}
