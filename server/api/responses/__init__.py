"""OpenAI's Responses dialect: `schema` is what may be asked, `routes` turns it into a chat request,
`events` turns chat's events into a response and its items.
"""
