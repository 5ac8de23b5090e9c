// Opens code-server's page in a headless Chromium, so that its extensions start, and waits until the probe has written.
// Arguments: the page, the file that the probe writes, the file for a screenshot. CHROMIUM names the browser.
import fs from 'node:fs';
import { createRequire } from 'node:module';

const [page, out, shot] = process.argv.slice(2);
const { chromium } = createRequire(process.env.PLAYWRIGHT)('playwright-core');
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'],
});
try {
  const tab = await browser.newPage({ viewport: { width: 1280, height: 800 } });
  await tab.goto(page, { waitUntil: 'domcontentloaded' });
  const end = Date.now() + 120_000;
  while (!fs.existsSync(out)) {
    if (Date.now() > end) throw new Error('the probe wrote nothing');
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  // What the user sees: the problems' view, with the language server's objection.
  await tab.waitForTimeout(1500);
  await tab.screenshot({ path: shot });
} finally {
  await browser.close();
}
