// Plays the core of the demo's client: each line that comes is a call, each that goes its result.
import { createInterface } from "node:readline";
import { Resume } from "../../examples/auction/page/resume.js";

let resume = new Resume();
for await (const line of createInterface({ input: process.stdin })) {
  const [method, ...args] = JSON.parse(line);
  if (method === "new") resume = new Resume();
  const result = method in resume && typeof resume[method] === "function" ? resume[method](...args) : resume[method];
  process.stdout.write(JSON.stringify(result ?? null) + "\n");
}
