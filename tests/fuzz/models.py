from tests.fuzz.kind import Kind
class Models(Kind):
    name = "models"
    share = 0.1
