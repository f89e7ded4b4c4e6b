// What users of openai-node do every day. `node node_checks.mjs <check>`; ARRIERO_URL says where the gateway is,
// KEYED_URL where one is that demands a key, QUEUELESS_URL one whose Redis is away.
import assert from 'node:assert/strict';
import OpenAI from 'openai';

const at = (url) => new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0 });
const client = at(process.env.ARRIERO_URL);
const question = { model: 'llama3.2', messages: [{ role: 'user', content: 'Why do llamas hum?' }] };
const tools = [
  {
    type: 'function',
    function: {
      name: 'get_weather',
      parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
    },
  },
];
const wholeText = async () => (await client.chat.completions.create(question)).choices[0].message.content;

const checks = {
  async chat() {
    const { data, response, request_id } = await client.chat.completions.create(question).withResponse();
    assert.match(data.choices[0].message.content, /Why do llamas hum/);
    assert.equal(data.choices[0].finish_reason, 'stop');
    assert.ok(data.usage.total_tokens > data.usage.completion_tokens);
    assert.match(response.headers.get('x-arriero-job-id'), /^job_[0-9A-Za-z]{16}$/);
    assert.equal(request_id, response.headers.get('x-request-id'));
    assert.ok(Number(response.headers.get('openai-processing-ms')) >= 0);
  },

  async stream() {
    const stream = await client.chat.completions.create({
      ...question,
      stream: true,
      stream_options: { include_usage: true },
    });
    let text = '';
    let usage = null;
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta.content ?? '';
      usage = chunk.usage ?? usage;
    }
    assert.equal(text, await wholeText());
    assert.ok(usage.completion_tokens > 0);
  },

  async streamHelper() {
    const final = await client.chat.completions.stream(question).finalContent();
    assert.equal(final, await wholeText());
  },

  async tools() {
    const asked = [{ role: 'user', content: 'Ask get_weather about Lima' }];
    const first = await client.chat.completions.create({ model: 'llama3.2', messages: asked, tools });
    assert.equal(first.choices[0].finish_reason, 'tool_calls');
    const [call] = first.choices[0].message.tool_calls;
    assert.equal(call.function.name, 'get_weather');
    assert.equal(typeof JSON.parse(call.function.arguments).city, 'string');
    const result = { role: 'tool', tool_call_id: call.id, content: '19 degrees and fog' };
    const messages = [...asked, first.choices[0].message, result];
    const second = await client.chat.completions.create({ model: 'llama3.2', messages, tools });
    assert.match(second.choices[0].message.content, /A tool said "19 degrees and fog"/);
  },

  async streamedTools() {
    const stream = await client.chat.completions.create({
      model: 'llama3.2',
      messages: [{ role: 'user', content: 'Ask get_weather about Lima' }],
      tools,
      stream: true,
    });
    let json = '';
    const reasons = [];
    for await (const { choices } of stream) {
      for (const piece of choices[0].delta.tool_calls ?? []) json += piece.function.arguments ?? '';
      if (choices[0].finish_reason) reasons.push(choices[0].finish_reason);
    }
    assert.equal(typeof JSON.parse(json).city, 'string');
    assert.deepEqual(reasons, ['tool_calls']);
  },

  async jsonMode() {
    const answer = await client.chat.completions.create({ ...question, response_format: { type: 'json_object' } });
    assert.equal(typeof JSON.parse(answer.choices[0].message.content), 'object');
  },

  async embeddings() {
    const body = { model: 'nomic-embed-text', input: ['a llama', 'an invoice'] };
    // Unasked, the library sends `base64` and decodes it itself.
    const decoded = await client.embeddings.create(body);
    const listed = await client.embeddings.create({ ...body, encoding_format: 'float' });
    assert.equal(decoded.data.length, 2);
    decoded.data.forEach(({ embedding, index }, place) => {
      assert.equal(index, place);
      assert.equal(embedding.length, 768);
      assert.deepEqual(Array.from(embedding), listed.data[place].embedding);
    });
  },

  async completion() {
    const answer = await client.completions.create({ model: 'llama3.2', prompt: 'Once upon a time' });
    assert.ok(answer.choices[0].text.length > 0);
  },

  async models() {
    const names = [];
    for await (const model of client.models.list()) names.push(model.id);
    assert.ok(names.includes('llama3.2:latest'));
    assert.equal((await client.models.retrieve('llama3.2')).id, 'llama3.2:latest');
  },

  async errors() {
    await assert.rejects(client.chat.completions.create({ ...question, n: 2 }), (error) => {
      assert.ok(error instanceof OpenAI.BadRequestError);
      assert.equal(error.param, 'n');
      return true;
    });
    const unknown = client.chat.completions.create({ ...question, model: 'llama3.3' });
    await assert.rejects(unknown, (error) => {
      assert.ok(error instanceof OpenAI.NotFoundError);
      assert.equal(error.code, 'model_not_found');
      return true;
    });
    await assert.rejects(at(process.env.KEYED_URL).models.list(), OpenAI.AuthenticationError);
    await assert.rejects(at(process.env.QUEUELESS_URL).chat.completions.create(question), (error) => {
      assert.ok(error instanceof OpenAI.InternalServerError);
      assert.equal(error.status, 503);
      return true;
    });
  },

  async abort() {
    const messages = [{ role: 'user', content: 'Count the stones [tokens=20000]' }];
    const { data, response } = await client.chat.completions
      .create({ model: 'llama3.2', messages, stream: true })
      .withResponse();
    for await (const chunk of data) {
      if (chunk.choices[0].delta.content) break;
    }
    // Leaving the loop closes the connection. The caller looks whether the job ended with it.
    console.log(response.headers.get('x-arriero-job-id'));
  },
};

const check = checks[process.argv[2]];
assert.ok(check, `there is no check ${process.argv[2]}, but ${Object.keys(checks).join(' ')}`);
await check();
