"""The official Anthropic SDK for Python."""

from anthropic import Anthropic

from interop import MODELS, PARAMETERS, error, main, weather

client = Anthropic(timeout=20)
TOOLS = [{"name": "get_weather", "input_schema": PARAMETERS}]


def ask(prompt, **more):
    messages = more.pop("messages", [{"role": "user", "content": prompt}])
    return client.messages.create(model=MODELS["messages"], max_tokens=1024, messages=messages, **more)


def text(prompt):
    return {"text": ask(prompt).content[0].text}


def stream(prompt):
    messages = [{"role": "user", "content": prompt}]
    with client.messages.stream(model=MODELS["messages"], max_tokens=1024, messages=messages) as events:
        return {"text": "".join(events.text_stream)}


def tools(prompt):
    messages = [{"role": "user", "content": prompt}]
    reply = ask(prompt, messages=messages, tools=TOOLS)
    call = next(block for block in reply.content if block.type == "tool_use")
    result = {"type": "tool_result", "tool_use_id": call.id, "content": weather(call.input["city"])}
    messages += [{"role": "assistant", "content": reply.content}, {"role": "user", "content": [result]}]
    return {"call": call.id, "text": ask(prompt, messages=messages, tools=TOOLS).content[0].text}


def abort(prompt):
    with ask(prompt, stream=True) as events:
        next(iter(events))
    return {"left": True}


main(
    {
        "messages": {
            "plain": text,
            "stream": stream,
            "tools": tools,
            "error": lambda prompt: error(lambda: ask(prompt)),
            "limited": text,
            "abort": abort,
        }
    }
)
