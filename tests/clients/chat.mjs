// A chat of the AI SDK without a page: `node chat.mjs PACKAGE` reads one job per line (JSON), and answers each with a line.
//
// A job is {"do", "url", "chat", …}. "send": sends `text` and reads the answer; `cut`: its connection is lost after so many
// events. "resume": a page that is loaded again, with `messages`, asks for the running answer. "send and resume": sends, is
// cut, and resumes in the same page. The answer is {"messages", "status", "error", "finish", "aborted"}.
import { createInterface } from "node:readline";

const { AbstractChat, DefaultChatTransport } = await import(process.argv[2]);

/** What React's state is to `useChat`. */
class State {
  status = "ready";
  error = undefined;
  statuses = [];
  constructor(messages) {
    this.messages = messages;
    return new Proxy(this, {
      set(target, name, value) {
        if (name === "status") target.statuses.push(value);
        target[name] = value;
        return true;
      },
    });
  }
  pushMessage = (message) => (this.messages = [...this.messages, message]);
  popMessage = () => (this.messages = this.messages.slice(0, -1));
  replaceMessage = (index, message) =>
    (this.messages = [...this.messages.slice(0, index), structuredClone(message), ...this.messages.slice(index + 1)]);
  snapshot = (value) => structuredClone(value);
}

class Chat extends AbstractChat {
  constructor(init, messages) {
    const state = new State(messages);
    super({ ...init, state });
    this.told = state;
  }
}

/** `fetch`, whose response breaks off after so many events. */
function cutting(after) {
  return async (...request) => {
    const response = await fetch(...request);
    if (after === undefined || !response.body) return response;
    let left = after;
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let buffered = "";
    const body = new ReadableStream({
      async pull(controller) {
        while (true) {
          const end = buffered.indexOf("\n\n");
          if (end >= 0) {
            if (left-- <= 0) {
              controller.error(new TypeError("the connection was lost"));
              await reader.cancel();
              return;
            }
            controller.enqueue(new TextEncoder().encode(buffered.slice(0, end + 2)));
            buffered = buffered.slice(end + 2);
            return;
          }
          const { done, value } = await reader.read();
          if (done) return left <= 0 ? controller.error(new TypeError("the connection was lost")) : controller.close();
          buffered += value;
        }
      },
    });
    return new Response(body, { status: response.status, headers: response.headers });
  };
}

async function run(job) {
  let finish;
  let cut = job.cut;
  const transport = new DefaultChatTransport({ api: job.url, fetch: (...request) => cutting(cut)(...request) });
  const init = { id: job.chat, transport, onError: () => {}, onFinish: (event) => (finish = event) };
  const chat = new Chat(init, job.messages ?? []);
  if (job.do !== "resume") await chat.sendMessage({ text: job.text });
  cut = undefined;
  if (job.do !== "send") await chat.resumeStream();
  return {
    messages: chat.messages,
    status: chat.status,
    statuses: chat.told.statuses,
    error: chat.error?.message,
    finish: finish && { isAbort: finish.isAbort, isError: finish.isError, finishReason: finish.finishReason },
  };
}

for await (const line of createInterface({ input: process.stdin })) {
  let result;
  try {
    result = await run(JSON.parse(line));
  } catch (error) {
    result = { failed: String(error?.stack ?? error) };
  }
  process.stdout.write(JSON.stringify(result) + "\n");
}
