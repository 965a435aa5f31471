"""OpenAI's Responses dialect: `schema` is what may be asked, `into_chat` makes it a chat request,
`events` turns chat's events into a response and its items.
"""
