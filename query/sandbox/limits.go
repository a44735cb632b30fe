package sandbox

// Limits of a statement. What a statement may cost when it runs is bounded by the engine, not here.
const (
	// MaxSQL is the longest text, in bytes.
	MaxSQL = 1 << 20
	// maxTree is the longest syntax tree, in bytes of JSON.
	maxTree = 64 << 20
	// maxNodes is how many nodes a tree may have: expressions, tables and queries.
	maxNodes = 20_000
	// maxTokens is how many words, literals and symbols a text may have.
	maxTokens = 50_000
	// maxComments is how deep comments may nest: the engine's lexer takes the square of the depth.
	maxComments = 32
	// maxBrackets is how deep brackets of all kinds may nest.
	maxBrackets = 500
	// maxConjunctions is how many AND and OR a text may have: the engine's parser and, worse, its planner take the square of their number. 500 pairs joined
	// by OR take the planner 1 s, 1,900 take 17 s.
	maxConjunctions = 1_000

	// maxExpressionDepth is how many expressions may stand one inside the other. Planning takes the cube: 0.1 s at 100, 10 s at 400.
	maxExpressionDepth = 100
	// maxQueryDepth is how many queries and joins may stand one inside the other.
	maxQueryDepth = 400
	// maxJoins is how many joins a statement may have. Planning a chain of 64 takes 1 s, one of 100 takes 4 s, one of 390 more than 20 s.
	maxJoins = 64
	// maxSubqueryDepth is how many subqueries of expressions may stand one inside the other. Planning doubles with each.
	maxSubqueryDepth = 12
	// maxMaking is how many makers may stand one inside the other.
	maxMaking = 3
	// maxTypeDepth is how deep types and constants may nest.
	maxTypeDepth = 50
)
