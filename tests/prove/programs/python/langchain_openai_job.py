"""langchain-openai: a tool's round, structured output, a stream, the Responses API, embeddings."""

import sys

from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel


class Person(BaseModel):
    """A person."""

    name: str
    age: int


@tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"{city}: 21 degrees"


def rounds(model: ChatOpenAI) -> None:
    """Asks, calls, tells, whole and streamed."""
    able = model.bind_tools([get_weather])
    for ask in (able.invoke, lambda messages: sum_of(able.stream(messages))):
        messages = [HumanMessage("What is the weather in Paris?")]
        messages.append(ask(messages))
        (call,) = messages[-1].tool_calls
        assert (call["name"], call["args"]) == ("get_weather", {"city": "Paris"}), call
        messages.append(get_weather.invoke(call))
        answer = ask(messages)
        assert answer.text == "The tool says: Paris: 21 degrees", answer
        assert answer.usage_metadata["output_tokens"] > 0


def sum_of(chunks):
    """The chunks of a stream, added up."""
    first, *rest = chunks
    assert rest, "it came in one piece"
    for chunk in rest:
        first += chunk
    return first


def main(url: str) -> None:
    server = {"base_url": f"{url}/v1", "api_key": "none", "model": "tiny"}
    model = ChatOpenAI(**server, stream_usage=True)
    rounds(model)
    rounds(ChatOpenAI(**server, use_responses_api=True))
    for method in ("json_schema", "function_calling"):
        found = model.with_structured_output(Person, method=method).invoke("Anna is 30 years old.")
        assert found == Person(name="Anna", age=30), found
    # Its own tokens are another model's: text must be sent as text.
    vectors = OpenAIEmbeddings(**server, check_embedding_ctx_length=False)
    assert len(vectors.embed_documents(["a", "b"])) == 2
    print("langchain-openai: done")


main(sys.argv[1])
