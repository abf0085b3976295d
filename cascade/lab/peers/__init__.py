"""Others in the same run: the same questions to transformers' assisted generation and to OpenAI's endpoints.

`contest` asks everybody in turns and makes the figures; each other module is one kind of contestant.
"""
