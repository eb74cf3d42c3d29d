// Checks objects of the Prometheus Operator by its own types: kubernetes.mjs MODULES OBJECTS.json...
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [modules, ...files] = process.argv.slice(2);
const path = resolve(modules, "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/index.js");
const types = await import(pathToFileURL(path).href);
const objects = files.flatMap((file) => JSON.parse(readFileSync(file, "utf8")));
let wrong = 0;
for (const { where, object } of objects) {
  try {
    new types[object.kind](object).validate();
  } catch (error) {
    wrong += 1;
    console.error(`${where}: ${error.message}`);
  }
}
if (objects.length === 0) {
  console.error("there is nothing to check");
  wrong = 1;
}
console.log(`${objects.length} objects of the Prometheus Operator`);
process.exit(wrong ? 1 : 0);
