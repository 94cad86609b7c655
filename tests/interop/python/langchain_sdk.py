"""LangChain's models of OpenAI and Anthropic."""

from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

from interop import MODELS, error, main, weather


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return weather(city)


def scenarios(model):
    def text(prompt):
        return {"text": model.invoke(prompt).text}

    def stream(prompt):
        return {"text": "".join(chunk.text for chunk in model.stream(prompt))}

    def tools(prompt):
        bound = model.bind_tools([get_weather])
        messages = [HumanMessage(prompt)]
        reply = bound.invoke(messages)
        call = reply.tool_calls[0]
        messages += [reply, ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"])]
        return {"call": call["id"], "text": bound.invoke(messages).text}

    def abort(prompt):
        chunks = model.stream(prompt)
        next(chunks)
        chunks.close()
        return {"left": True}

    return {
        "plain": text,
        "stream": stream,
        "tools": tools,
        "error": lambda prompt: error(lambda: model.invoke(prompt)),
        "limited": text,
        "abort": abort,
    }


main(
    {
        "chat_completions": scenarios(ChatOpenAI(model=MODELS["chat_completions"], timeout=20, stream_usage=True)),
        "responses": scenarios(ChatOpenAI(model=MODELS["responses"], timeout=20, use_responses_api=True)),
        "messages": scenarios(ChatAnthropic(model=MODELS["messages"], timeout=20, max_tokens=1024)),
    }
)
