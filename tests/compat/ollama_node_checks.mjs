// What users of ollama-js do every day. `node ollama_node_checks.mjs <check>`; ARRIERO_URL says where the gateway is,
// KEYED_URL where one is that demands a key, and KEY is one.
import assert from 'node:assert/strict';
import { Ollama } from 'ollama';

const client = new Ollama({ host: process.env.ARRIERO_URL });
const question = { model: 'llama3.2', messages: [{ role: 'user', content: 'Why do llamas hum?' }] };
const tools = [
  {
    type: 'function',
    function: {
      name: 'get_weather',
      description: 'Current weather at a place',
      parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
    },
  },
];
const refused = (status, words) => (error) => {
  assert.equal(error.name, 'ResponseError');
  assert.equal(error.status_code, status);
  assert.match(error.message, words);
  return true;
};

const checks = {
  async chat() {
    const answer = await client.chat({ ...question, options: { temperature: 0, seed: 7 } });
    assert.match(answer.message.content, /Why do llamas hum/);
    assert.equal(answer.done_reason, 'stop');
    assert.ok(answer.eval_count > 0 && answer.total_duration > 0);
  },

  async stream() {
    let text = '';
    let last = null;
    for await (const part of await client.chat({ ...question, stream: true })) {
      text += part.message.content;
      last = part;
    }
    assert.equal(text, (await client.chat(question)).message.content);
    assert.ok(last.done && last.eval_count > 0);
  },

  async tools() {
    const asked = [{ role: 'user', content: 'Ask get_weather about Lima' }];
    const { message } = await client.chat({ model: 'llama3.2', messages: asked, tools });
    const [call] = message.tool_calls;
    assert.equal(call.function.name, 'get_weather');
    assert.equal(typeof call.function.arguments.city, 'string');
    const messages = [...asked, message, { role: 'tool', tool_name: 'get_weather', content: '19 degrees and fog' }];
    const second = await client.chat({ model: 'llama3.2', messages, tools });
    assert.match(second.message.content, /A tool said "19 degrees and fog"/);
  },

  async generate() {
    const whole = await client.generate({ model: 'llama3.2', prompt: 'Once upon a time', system: 'be brief' });
    let text = '';
    const asked = { model: 'llama3.2', prompt: 'Once upon a time', system: 'be brief', stream: true };
    for await (const part of await client.generate(asked)) text += part.response;
    assert.equal(text, whole.response);
    assert.equal((await client.generate({ model: 'llama3.2', prompt: '' })).done_reason, 'load');
  },

  async jsonMode() {
    const answer = await client.chat({ ...question, format: 'json' });
    assert.equal(typeof JSON.parse(answer.message.content), 'object');
  },

  async embed() {
    const { embeddings } = await client.embed({ model: 'nomic-embed-text', input: ['a llama', 'an invoice'] });
    assert.deepEqual(embeddings.map((vector) => vector.length), [768, 768]);
    const { embedding } = await client.embeddings({ model: 'nomic-embed-text', prompt: 'a llama' });
    assert.deepEqual(embedding, embeddings[0]);
  },

  async models() {
    assert.ok((await client.list()).models.some((model) => model.name === 'llama3.2:latest'));
    await client.generate({ model: 'llama3.2', prompt: '' });
    assert.ok((await client.ps()).models.some((model) => model.name === 'llama3.2:latest'));
    assert.equal((await client.show({ model: 'llama3.2' })).details.family, 'llama');
    assert.match((await client.version()).version, /^\d+\.\d+/);
  },

  async errors() {
    await assert.rejects(client.chat({ ...question, model: 'llama3.3' }), refused(404, /Did you mean llama3\.2/));
    await assert.rejects(client.pull({ model: 'llama3.3' }), refused(403, /arriero models pull/));
    await assert.rejects(client.chat({ ...question, think: 'much' }), refused(400, /`think`/));
    await assert.rejects(new Ollama({ host: process.env.KEYED_URL }).list(), refused(401, /API key/));
    const headers = { Authorization: `Bearer ${process.env.KEY}` };
    assert.ok((await new Ollama({ host: process.env.KEYED_URL, headers }).list()).models.length > 0);
  },

  async abort() {
    const messages = [{ role: 'user', content: 'Count the stones [tokens=20000]' }];
    const stream = await client.chat({ model: 'llama3.2', messages, stream: true });
    const reading = (async () => {
      for await (const part of stream) if (part.message.content) stream.abort();
    })();
    await assert.rejects(reading, { name: 'AbortError' });
  },
};

const check = checks[process.argv[2]];
assert.ok(check, `there is no check ${process.argv[2]}, but ${Object.keys(checks).join(' ')}`);
await check();
