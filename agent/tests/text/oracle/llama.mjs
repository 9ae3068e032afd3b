// Asks llama.cpp, through node-llama-cpp, what the folders' `asked.json` ask, and compares.
//
//   node llama.mjs FOLDER...      exit status 1 if a text differs
import {readFileSync} from "node:fs";
import {join} from "node:path";
import {getLlama} from "node-llama-cpp";

const llama = await getLlama({gpu: false, build: "never", skipDownload: true, logLevel: "error"});
let different = 0;
for (const folder of process.argv.slice(2)) {
  const model = await llama.loadModel({modelPath: join(folder, "model.gguf"), gpuLayers: 0});
  for (const asked of JSON.parse(readFileSync(join(folder, "asked.json")))) {
    const context = await model.createContext({contextSize: 256, threads: 1});
    const tokens = [model.tokens.bos, ...model.tokenize(asked.prompt)];
    const written = [];
    for await (const token of context.getSequence().evaluate(tokens, {temperature: 0})) {
      if (model.isEogToken(token)) break;
      written.push(token);
      if (written.length === asked.tokens_max) break;
    }
    let text = model.detokenize(written);
    const ends = asked.stop.map((stop) => text.indexOf(stop)).filter((place) => place >= 0);
    if (ends.length > 0) text = text.slice(0, Math.min(...ends));
    if (text !== asked.text) {
      different += 1;
      console.log(`${folder}: ${JSON.stringify(asked.prompt)}`);
      console.log(`  llama.cpp: ${JSON.stringify(text)}\n  here:      ${JSON.stringify(asked.text)}`);
    }
    await context.dispose();
  }
  console.log(`${folder}: compared with llama.cpp`);
  await model.dispose();
}
process.exit(different > 0 ? 1 : 0);
