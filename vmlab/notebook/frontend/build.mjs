// Bundles every view, a file of src/, into one module of its own, style included: `npm run build [folder]`.
import { build, transform } from "esbuild";
import { readdir, readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const views = (await readdir(here("src"))).filter((name) => name.endsWith(".js"));

// a style sheet is imported as its text, and put into the page by the view
const styles = {
  name: "styles",
  setup(plugin) {
    plugin.onLoad({ filter: /\.css$/ }, async ({ path }) => {
      const text = await readFile(path, "utf8");
      const { code } = await transform(text, { loader: "css", minify: true });
      return { contents: code.trim(), loader: "text" };
    });
  },
};

await build({
  entryPoints: views.map((name) => here(`src/${name}`)),
  outdir: process.argv[2] ?? here("../static"),
  bundle: true,
  minify: true,
  // the private members of xterm.js, a tenth of its size: nothing asks for them by a text
  mangleProps: /^_[a-z]/,
  format: "esm",
  target: "es2022",
  charset: "utf8",
  legalComments: "eof",
  plugins: [styles],
  logLevel: "warning",
});
