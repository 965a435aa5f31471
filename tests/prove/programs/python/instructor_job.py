"""instructor: an object out of a text, by tool and by schema, whole and growing."""

import sys

import instructor
from openai import OpenAI
from pydantic import BaseModel


class Person(BaseModel):
    name: str
    age: int


MESSAGES = [{"role": "user", "content": "Anna is 30 years old."}]
ANNA = Person(name="Anna", age=30)


def main(url: str) -> None:
    for mode in (instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA):
        client = instructor.from_openai(
            OpenAI(base_url=f"{url}/v1", api_key="none"), model="tiny", mode=mode
        )
        found = client.create(response_model=Person, messages=MESSAGES, max_retries=0)
        assert found.model_dump() == ANNA.model_dump(), found
        *partial, last = client.create_partial(response_model=Person, messages=MESSAGES)
        assert partial, "it came in one piece"
        assert last.model_dump() == ANNA.model_dump(), last
    print("instructor: done")


main(sys.argv[1])
