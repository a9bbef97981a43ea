"""Restores whole photographs of people you know. ComfyUI enters here."""

WEB_DIRECTORY = "./nodes/web"


async def comfy_entrypoint():
    from .nodes import PersonalRestore

    return PersonalRestore()
